"""A collection: documents, queries, and relevance judgements (qrels) by split.

Documents live in a memory-mapped Arrow file: a corpus larger than memory costs no more than its ids.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .errors import Faults, UserError
from .files import fingerprint, read_manifest, replacing, write_manifest

KIND = "collection"
ROWS_PER_BATCH = 4096
MAX_RELEVANCE = 2**31 - 1
UNFIT_FOR_IDS = ("Cc", "Cs")
SURROGATE = re.compile("[\ud800-\udfff]")

Qrels = dict[str, dict[str, int]]
"""Relevance by query id and document id; 0 means judged and not relevant."""


class Document(NamedTuple):
    """One document; `title` may be empty."""

    doc_id: str
    title: str
    text: str

    @property
    def content(self) -> str:
        """What every stage reads: the title, a line break, and the text."""
        return f"{self.title}\n{self.text}" if self.title and self.text else self.title or self.text


class Query(NamedTuple):
    """One query."""

    query_id: str
    text: str


class Qrel(NamedTuple):
    """One relevance judgement, with ir_measures' field names."""

    query_id: str
    doc_id: str
    relevance: int


class Source(Protocol):
    """Where a collection is read from. Each reader adds what is wrong with a record to `faults` and goes on."""

    name: str

    def fingerprint(self) -> str:
        """A digest of everything that is read, cheap enough to be taken at every start."""
        ...

    def documents(self, faults: Faults) -> Iterator[Document]:
        """Every document, in the source's order."""
        ...

    def queries(self, faults: Faults) -> Iterator[Query]:
        """Every query, in the source's order."""
        ...

    def qrels(self, faults: Faults) -> dict[str, list[Qrel]]:
        """The judgements by split ("train", "dev", "test" and any other name)."""
        ...

    def notes(self) -> list[str]:
        """What a reader of the collection should know, e.g. what was left out; asked for after the rest was read."""
        ...


class Documents:
    """The documents of a collection, memory-mapped: a row number or an id gives a `Document`."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, row: int) -> Document:
        columns = (self._table.column(name)[row].as_py() for name in Document._fields)
        return Document(*columns)

    def __iter__(self) -> Iterator[Document]:
        for batch in self._table.to_batches(max_chunksize=ROWS_PER_BATCH):
            yield from map(Document, *(column.to_pylist() for column in batch.columns))

    def __contains__(self, doc_id: object) -> bool:
        return doc_id in self._rows

    @cached_property
    def ids(self) -> list[str]:
        """The document ids by row."""
        return list(self._table.column("doc_id").to_pylist())

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {doc_id: row for row, doc_id in enumerate(self.ids)}

    def by_id(self, doc_id: str) -> Document:
        """The document with this id; `KeyError` if there is none."""
        return self[self._rows[doc_id]]

    def contents(self, doc_ids: Sequence[str]) -> list[str]:
        """The `content` of each document, in the order of the ids.

        One row at a time: `take` on a table of several batches would first copy the whole corpus into memory.
        """
        return [self.by_id(doc_id).content for doc_id in doc_ids]


class Collection:
    """Documents, queries, and qrels by split, read from a folder that `write_collection` made.

    Attributes:
        folder: where it lies.
        documents: the corpus, memory-mapped.
        queries: text by query id.
        qrels: judgements by split: `qrels["test"][query_id][doc_id]` is a relevance.
        manifest: name, counts, notes and fingerprint.
    """

    def __init__(self, folder: Path) -> None:
        import pyarrow as pa

        self.folder = folder
        self.manifest = read_manifest(folder, KIND)
        self.documents = Documents(folder / "documents.arrow")
        queries = pa.ipc.open_file(str(folder / "queries.arrow")).read_all()
        self.queries: dict[str, str] = dict(zip(*(column.to_pylist() for column in queries.columns), strict=True))
        self.qrels: dict[str, Qrels] = {}
        rows = pa.ipc.open_file(str(folder / "qrels.arrow")).read_all()
        for split, *qrel in zip(*(column.to_pylist() for column in rows.columns), strict=True):
            query_id, doc_id, relevance = qrel
            self.qrels.setdefault(split, {}).setdefault(query_id, {})[doc_id] = relevance

    @classmethod
    def load(cls, folder: str | Path) -> Collection:
        """Open a collection folder. `UserError` if it is none."""
        return cls(Path(folder))

    @classmethod
    def read(cls, source: str | Path, folder: str | Path, **settings: Any) -> Collection:
        """Read a source (a BEIR folder, `pydocs`, `hf:<dataset id>`), validate it, and store it under `folder`.

        `settings` are those of the `collection` section of a config, e.g. `dev_share`.
        """
        from .config import CollectionConfig
        from .sources import open_source

        config = CollectionConfig(source=str(source), **settings)
        with replacing(Path(folder)) as temporary:
            opened = open_source(config)
            write_collection(
                opened,
                temporary,
                dev_share=config.dev_share,
                seed=13,
                drop_invalid=config.drop_invalid,
                digest=opened.fingerprint(),
            )
        return cls(Path(folder))

    @property
    def name(self) -> str:
        """The name of the source."""
        return str(self.manifest["name"])

    def split(self, name: str) -> Qrels:
        """The judgements of one split.

        Raises:
            UserError: there is no such split; the message lists those there are.
        """
        if name not in self.qrels:
            raise UserError(f"collection {self.name!r} has no split {name!r}; it has {', '.join(self.qrels) or 'none'}")
        return self.qrels[name]


def write_collection(
    source: Source, folder: Path, *, dev_share: float, seed: int, drop_invalid: bool = False, digest: str = ""
) -> dict[str, Any]:
    """Read `source` once, validate it, and write it into `folder`.

    Every fault of the documents, the queries and the qrels is collected; nothing is kept if there is one, unless
    `drop_invalid`, which leaves the faulty records out and counts them in the manifest.

    Args:
        source: where to read from.
        folder: an existing, empty folder.
        dev_share: the share of the training queries that becomes dev where the source has none.
        seed: decides which queries these are.
        drop_invalid: leave out faulty records instead of refusing the collection.
        digest: the fingerprint to keep in the manifest.

    Raises:
        UserError: with the report of all faults.
    """
    faults = Faults(f"collection {source.name!r}")
    doc_ids = _write_documents(source, folder / "documents.arrow", faults)
    queries = dict(_valid_queries(source.queries(faults), faults))
    splits = _valid_qrels(source.qrels(faults), doc_ids, queries, faults)
    if not doc_ids:
        raise UserError("\n".join([f"collection {source.name!r} holds no valid document", *faults.messages]))
    if not drop_invalid:
        faults.raise_if_any("Mend the source, or leave the faulty records out with collection.drop_invalid=true")
    notes = [*source.notes(), *cut_dev(splits, dev_share, seed)]
    if faults.count:
        notes.append(f"left out as faulty: {faults.report()}")
    if "test" not in splits:
        notes.append("no test split: nothing can be evaluated on it")
    _write_table(folder / "queries.arrow", {"query_id": list(queries), "text": list(queries.values())})
    rows = [(split, *qrel) for split, qrels in splits.items() for qrel in _flatten(qrels)]
    names = ("split", *Qrel._fields)
    _write_table(folder / "qrels.arrow", {name: [row[i] for row in rows] for i, name in enumerate(names)})
    counts = {split: {"queries": len(q), "judgements": sum(map(len, q.values()))} for split, q in splits.items()}
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


def cut_dev(splits: dict[str, Qrels], share: float, seed: int) -> list[str]:
    """Move `share` of the training queries to a new dev split, if there is none; return what was done, in words.

    Queries that share a positive document stay together, so that no training positive is a dev positive, unless the
    queries are so entangled that this leaves less than half the share. The cut depends on the seed and the ids alone,
    not on their order.
    """
    train = splits.get("train", {})
    if "dev" in splits or len(train) < 2 or share <= 0:
        return []
    wanted = min(max(1, round(share * len(train))), len(train) - 1)
    dev, note = _take(group_queries(train), wanted, seed), "none shares a relevant document with train"
    if 2 * len(dev) < wanted:
        dev, note = _take([[query_id] for query_id in train], wanted, seed), "some share relevant documents with train"
    splits["dev"] = {query_id: train[query_id] for query_id in sorted(dev)}
    splits["train"] = {query_id: judged for query_id, judged in train.items() if query_id not in dev}
    return [f"no dev split: {len(dev)} of {len(train)} training queries were cut for it (seed {seed}); {note}"]


def _take(groups: Iterable[list[str]], wanted: int, seed: int) -> set[str]:
    """Whole groups in an order decided by the seed, as long as they fit into `wanted` query ids."""
    taken: set[str] = set()
    for group in sorted(groups, key=lambda ids: fingerprint(seed, ids[0])):
        if len(taken) + len(group) <= wanted:
            taken.update(group)
    return taken


def answerable(qrels: Qrels) -> Qrels:
    """The queries that have a relevant document."""
    return {query_id: judged for query_id, judged in qrels.items() if any(r > 0 for r in judged.values())}


def choose_queries(query_ids: Iterable[str], count: int | None, seed: int) -> list[str]:
    """Up to `count` query ids, chosen by the seed and the ids alone, in the order given; none means all."""
    query_ids = list(query_ids)
    if count is None or len(query_ids) <= count:
        return query_ids
    chosen = set(sorted(query_ids, key=lambda query_id: fingerprint(seed, query_id))[:count])
    return [query_id for query_id in query_ids if query_id in chosen]


def group_queries(qrels: Qrels) -> list[list[str]]:
    """Group query ids that share a relevant document, directly or through others; ids and groups are sorted."""
    parent = {query_id: query_id for query_id in qrels}

    def root(query_id: str) -> str:
        while parent[query_id] != query_id:
            parent[query_id] = parent[parent[query_id]]
            query_id = parent[query_id]
        return query_id

    first_with: dict[str, str] = {}
    for query_id, judged in qrels.items():
        for doc_id, relevance in judged.items():
            if relevance > 0:
                parent[root(query_id)] = root(first_with.setdefault(doc_id, query_id))
    groups: dict[str, list[str]] = {}
    for query_id in sorted(qrels):
        groups.setdefault(root(query_id), []).append(query_id)
    return sorted(groups.values())


def _flatten(qrels: Qrels) -> Iterator[Qrel]:
    for query_id, judged in qrels.items():
        for doc_id, relevance in judged.items():
            yield Qrel(query_id, doc_id, relevance)


def _write_documents(source: Source, path: Path, faults: Faults) -> set[str]:
    import pyarrow as pa

    schema = pa.schema([(name, pa.large_string()) for name in Document._fields])
    seen: set[str] = set()
    batch: list[Document] = []
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:

        def flush() -> None:
            columns = [pa.array(column, pa.large_string()) for column in zip(*batch, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            batch.clear()

        for document in source.documents(faults):
            subject = f"document {document.doc_id!r}"
            if _is_valid_id(document.doc_id, "document", seen, faults) and _is_valid_text(
                document.content, subject, "neither title nor text", faults
            ):
                seen.add(document.doc_id)
                batch.append(document)
                if len(batch) == ROWS_PER_BATCH:
                    flush()
        if batch:
            flush()
    return seen


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
    splits: Mapping[str, Iterable[Qrel]], doc_ids: set[str], queries: Mapping[str, str], faults: Faults
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

    types = {"relevance": pa.int32()}
    table = pa.table({name: pa.array(column, types.get(name, pa.large_string())) for name, column in columns.items()})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
