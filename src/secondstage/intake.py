"""The way of a source into a stored collection: read once, validated, every fault reported together."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from .collection import KIND, ROWS_PER_BATCH, Document, Qrel, Qrels, Query, Source
from .errors import Faults, UserError
from .files import write_manifest
from .splits import answerable, cut_split

MAX_RELEVANCE = 2**31 - 1
UNFIT_FOR_IDS = ("Cc", "Cs")
SURROGATE = re.compile("[\ud800-\udfff]")


def write_collection(
    source: Source,
    folder: Path,
    *,
    dev_share: float,
    test_share: float = 0.0,
    seed: int,
    drop_invalid: bool = False,
    digest: str = "",
) -> dict[str, Any]:
    """Read `source` once, validate it, and write it into `folder`.

    Every fault of the documents, the queries and the qrels is collected; nothing is kept if there is one, unless
    `drop_invalid`, which leaves the faulty records out and counts them in the manifest.

    Args:
        source: where to read from.
        folder: an existing, empty folder.
        dev_share: the share of the training queries that becomes dev where the source has none.
        test_share: the same for test, which is cut first.
        seed: decides which queries these are.
        drop_invalid: leave out faulty records instead of refusing the collection.
        digest: the fingerprint to keep in the manifest.

    Raises:
        UserError: with the report of all faults.
    """
    faults = Faults(f"collection {source.name!r}")
    doc_ids = _write_documents(source, folder / "documents.arrow", faults)
    queries = {query.query_id: query for query in _valid_queries(source.queries(faults), faults)}
    splits = _valid_qrels(source.qrels(faults), doc_ids, queries, faults)
    if not doc_ids:
        raise UserError("\n".join([f"collection {source.name!r} holds no valid document", *faults.messages]))
    if not drop_invalid:
        faults.raise_if_any("Mend the source, or leave the faulty records out with collection.drop_invalid=true")
    shares = {"test": test_share, "dev": dev_share}
    texts = {query_id: query.text for query_id, query in queries.items()}
    cuts = [note for split, share in shares.items() for note in cut_split(splits, split, share, seed, texts)]
    notes = [*source.notes(), *faults.notes(), *cuts]
    if faults.count:
        notes.append(f"left out as faulty: {faults.report()}")
    if "test" not in splits:
        notes.append("no test split: nothing can be evaluated on it")
    columns = zip(*queries.values(), strict=True) if queries else [()] * len(Query._fields)
    _write_table(folder / "queries.arrow", dict(zip(Query._fields, map(list, columns), strict=True)))
    rows = [(split, *qrel) for split, qrels in splits.items() for qrel in _flatten(qrels)]
    names = ("split", *Qrel._fields)
    _write_table(folder / "qrels.arrow", {name: [row[i] for row in rows] for i, name in enumerate(names)})
    counts = {
        split: {
            "queries": len(q),
            "answerable": len(answerable(q)),
            "judgements": sum(map(len, q.values())),
            "highest": max(max(rows.values()) for rows in q.values()),
        }
        for split, q in splits.items()
    }
    details = {
        "name": source.name,
        "documents": len(doc_ids),
        "queries": len(queries),
        "splits": counts,
        "faults": faults.count,
        "notes": notes,
    }
    write_manifest(folder, KIND, fingerprint=digest, **details)
    return details


def _flatten(qrels: Qrels) -> Iterator[Qrel]:
    for query_id, judged in qrels.items():
        for doc_id, relevance in judged.items():
            yield Qrel(query_id, doc_id, relevance)


def _write_documents(source: Source, path: Path, faults: Faults) -> set[str]:
    """Store the valid documents of a source; return their ids."""
    seen: set[str] = set()
    write_documents(valid_documents(source.documents(faults), seen, faults), path)
    return seen


def valid_documents(documents: Iterable[Document], seen: set[str], faults: Faults) -> Iterator[Document]:
    """Those that have a text, and an id that is in `seen` neither before nor after; theirs are added to it."""
    for document in documents:
        subject = f"document {document.doc_id!r}"
        if _is_valid_id(document.doc_id, "document", seen, faults) and _is_valid_text(
            document.content, subject, "neither title nor text", faults
        ):
            seen.add(document.doc_id)
            yield document


def write_documents(documents: Iterable[Document], path: Path) -> None:
    """Write documents into an Arrow file, some thousand at a time."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.large_string()) for name in Document._fields])
    remaining = iter(documents)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        while batch := list(islice(remaining, ROWS_PER_BATCH)):
            columns = [pa.array(column, pa.large_string()) for column in zip(*batch, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _valid_queries(queries: Iterable[Query], faults: Faults) -> Iterator[Query]:
    seen: set[str] = set()
    for query in queries:
        if _is_valid_id(query.query_id, "query", seen, faults) and _is_valid_text(
            query.text, f"query {query.query_id!r}", "no text", faults
        ):
            seen.add(query.query_id)
            yield query


def _is_valid_id(value: str, noun: str, seen: set[str], faults: Faults) -> bool:
    """Ids must be there, unique, and free of white space, which TREC files could not carry."""
    if not value:
        faults.add(f"a {noun} has an empty id")
    elif value in seen:
        faults.add(f"{noun} id {value!r} is there twice")
    elif any(char.isspace() or unicodedata.category(char) in UNFIT_FOR_IDS for char in value):
        faults.add(f"{noun} id {value!r} holds white space or a control character, which a TREC run cannot carry")
    else:
        return True
    return False


def _is_valid_text(text: str, subject: str, lacking: str, faults: Faults) -> bool:
    """Texts must hold something, and be encodable: JSON escapes can spell half a surrogate pair, which no file can."""
    if not text.strip():
        faults.add(f"{subject} has {lacking}")
    elif not text.isascii() and SURROGATE.search(text):
        faults.add(f"{subject} holds half a surrogate pair, which is no character")
    else:
        return True
    return False


def _valid_qrels(
    splits: Mapping[str, Iterable[Qrel]], doc_ids: set[str], queries: Container[str], faults: Faults
) -> dict[str, Qrels]:
    valid: dict[str, Qrels] = {}
    for split, qrels in splits.items():
        judged = valid.setdefault(split, {})
        for query_id, doc_id, relevance in qrels:
            if query_id not in queries:
                faults.add(f"{split} qrels name an unknown query {query_id!r}")
            elif doc_id not in doc_ids:
                faults.add(f"{split} qrels of query {query_id!r} name an unknown document {doc_id!r}")
            elif abs(relevance) > MAX_RELEVANCE:
                faults.add(f"{split} qrels judge {query_id!r} {doc_id!r} with {relevance}, beyond {MAX_RELEVANCE}")
            elif judged.setdefault(query_id, {}).setdefault(doc_id, relevance) != relevance:
                faults.add(f"{split} qrels judge {query_id!r} {doc_id!r} twice, with different relevance")
    return {split: judged for split, judged in valid.items() if judged}


def _write_table(path: Path, columns: Mapping[str, list[Any]]) -> None:
    import pyarrow as pa

    types = {"relevance": pa.int32(), "synthetic": pa.bool_(), "clicked": pa.list_(pa.large_string())}
    table = pa.table({name: pa.array(column, types.get(name, pa.large_string())) for name, column in columns.items()})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
