"""BEIR's records: documents and queries as JSON objects, qrels as lines of columns."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from secondstage.collection import Document, Qrel, Query
from secondstage.errors import Faults

from .text import read_lines

HEADER = ("query-id", "corpus-id")
INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
NO_FIELD = "metadata fields left out, as they are neither text, number, true or false, nor a list of such"
BEIR_COLUMNS, TREC_COLUMNS = 3, 4
COLUMNS = {BEIR_COLUMNS: "query-id corpus-id score", TREC_COLUMNS: "query-id iteration doc-id relevance"}
# What a split is called here that data sets call otherwise.
SPLITS = {"validation": "dev"}


def json_documents(path: Path, faults: Faults) -> Iterator[Document]:
    """The documents of a `corpus.jsonl`."""
    for where, record in json_lines(path, faults):
        if document := to_document(record, where, faults):
            yield document


def json_queries(path: Path, faults: Faults) -> Iterator[Query]:
    """The queries of a `queries.jsonl`."""
    for where, record in json_lines(path, faults):
        if query := to_query(record, where, faults):
            yield query


def json_lines(path: Path, faults: Faults) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of a file of JSON lines, each with its file and line; anything else is a fault."""
    for number, line in read_lines(path, faults):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line.rstrip())
        except json.JSONDecodeError as error:
            faults.add(f"{where}: not JSON: {error.msg} at column {error.colno}")
        except (ValueError, RecursionError) as error:  # an endless number, brackets nested without end
            faults.add(f"{where}: not JSON that can be read: {error}")
        else:
            if isinstance(record, dict):
                yield where, record
            else:
                faults.add(f"{where}: a {type(record).__name__}, where a JSON object is expected")


def to_document(record: Mapping[str, Any], where: str, faults: Faults) -> Document | None:
    """A document of `_id`, `text` and perhaps `title`; none, and a fault that says `where`, if it is no such.

    Of BEIR's `metadata`, fields that hold a text, a number, a truth value or a list of such are kept, for filters;
    others are counted as passed over.
    """
    doc_id, text = _id(record, where, faults), _string(record, "text", where, faults)
    title = "" if record.get("title") is None else _string(record, "title", where, faults)
    if doc_id is None or text is None or title is None:
        return None
    return Document(doc_id, title, text, _fields(record.get("metadata"), faults))


def _fields(metadata: object, faults: Faults) -> str:
    """The fields that can be asked for, as a JSON object with sorted keys; empty if there are none."""
    found = metadata if isinstance(metadata, Mapping) else {}
    kept = {str(name): value for name, value in found.items() if _is_field(value)}
    for value in found.values():
        if value is not None and not _is_field(value):  # null holds nothing that could be lost
            faults.pass_over(NO_FIELD)
    # In ASCII: JSON escapes can spell half a surrogate pair, which no file could hold otherwise.
    return json.dumps(kept, sort_keys=True) if kept else ""


def _is_field(value: object) -> bool:
    return all(map(_is_scalar, value)) if isinstance(value, list) else _is_scalar(value)


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def to_query(record: Mapping[str, Any], where: str, faults: Faults) -> Query | None:
    """A query of `_id` and `text`; none, and a fault that says `where`, if it is no such.

    BEIR's `metadata` may say that it is `synthetic`, and which documents were `clicked`: a list of ids.
    """
    query_id, text = _id(record, where, faults), _string(record, "text", where, faults)
    found = record.get("metadata")
    metadata = found if isinstance(found, Mapping) else {}
    if query_id is None or text is None:
        return None
    clicked = metadata.get("clicked")
    doc_ids = [each for each in clicked if isinstance(each, str)] if isinstance(clicked, list) else []
    return Query(query_id, text, metadata.get("synthetic") is True, tuple(doc_ids))


def id_text(value: object) -> str | None:
    """An id, which JSON and tables may also spell as a whole number; none if it is neither."""
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def _id(record: Mapping[str, Any], where: str, faults: Faults) -> str | None:
    value = record.get("_id")
    if value is None or value == "":
        faults.add(f"{where}: no '_id'; there is {', '.join(key for key in record if key != '_id') or 'nothing'}")
    elif (text := id_text(value)) is not None:
        return text
    else:
        faults.add(f"{where}: '_id' must be a string or a whole number, not {value!r:.80}")
    return None


def _string(record: Mapping[str, Any], key: str, where: str, faults: Faults) -> str | None:
    value = record.get(key)
    if isinstance(value, str):
        return value
    faults.add(f"{where}: {key!r} must be a string, not {value!r:.80}" if key in record else f"{where}: no {key!r}")
    return None


class QrelsReader:
    """Reads files of judgements, and counts the negative ones, which become 0.

    BEIR: `query-id corpus-id score`, with or without that header. TREC: `query-id iteration doc-id relevance`.
    """

    def __init__(self, *columns: int) -> None:
        self.columns = columns
        """Which numbers of columns are allowed; the first line of a file decides between them."""
        self.negative = 0

    def read(self, path: Path, faults: Faults) -> list[Qrel]:
        """The judgements of one file."""
        rows = [(number, cells) for number, line in read_lines(path, faults) if (cells := line.split())]
        if rows and _is_header(rows[0][1]):
            del rows[0]
        first = len(rows[0][1]) if rows else 0
        allowed = (first,) if first in self.columns else self.columns
        qrels: list[Qrel] = []
        for number, cells in rows:
            if len(cells) not in allowed:
                wanted, names = " or ".join(map(str, allowed)), " or ".join(COLUMNS[count] for count in allowed)
                faults.add(f"{path}:{number}: {len(cells)} columns, where {wanted} are expected: {names}")
            elif not INTEGER.fullmatch(cells[-1]):
                faults.add(f"{path}:{number}: score {cells[-1]!r} is not a whole number")
            else:
                qrels.append(self.qrel(cells[0], cells[-2], int(cells[-1])))
        return qrels

    def qrel(self, query_id: str, doc_id: str, relevance: int) -> Qrel:
        """One judgement, its negative relevance (TREC's mark for spam and the like) made 0."""
        self.negative += relevance < 0
        return Qrel(query_id, doc_id, max(relevance, 0))

    def notes(self) -> list[str]:
        """What was changed, in words."""
        return [f"judgements with a negative relevance, taken as 0: {self.negative}"] if self.negative else []


def _is_header(cells: list[str]) -> bool:
    return tuple(cell.lower().replace("_", "-") for cell in cells[:2]) == HEADER
