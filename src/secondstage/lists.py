"""Training lists: for every query its candidates, each with where it came from and why it was kept.

Stored as Arrow, one row a candidate, so that millions of them are read without holding them as Python objects twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

POSITIVE = "positive"
NEGATIVE = "negative"


class Candidate(NamedTuple):
    """One document of a training list.

    Attributes:
        doc_id: the document.
        relevance: its judgement; 0 if there is none.
        judged: whether the qrels judge it.
        retriever: who found it; "qrels" for a positive that the first stage missed.
        rank: its rank in the first stage's list, from 1; 0 if it was missed.
        score: the first stage's score; 0 if it was missed.
        role: "positive" or "negative".
    """

    doc_id: str
    relevance: int
    judged: bool
    retriever: str
    rank: int
    score: float
    role: str


class TrainingList(NamedTuple):
    """One query, its positives and its negatives."""

    query_id: str
    candidates: tuple[Candidate, ...]

    def with_role(self, role: str) -> tuple[Candidate, ...]:
        """The candidates that play this role."""
        return tuple(candidate for candidate in self.candidates if candidate.role == role)


COLUMNS: Mapping[str, str] = {
    "query_id": "large_string",
    "doc_id": "large_string",
    "relevance": "int32",
    "judged": "bool_",
    "retriever": "large_string",
    "rank": "int32",
    "score": "float32",
    "role": "large_string",
}
LISTS_PER_BATCH = 1024


def write_lists(path: Path, lists: Iterable[TrainingList]) -> None:
    """Write training lists as one Arrow file."""
    import pyarrow as pa

    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in COLUMNS.items()])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        rows: list[tuple[Any, ...]] = []
        for number, (query_id, candidates) in enumerate(lists, 1):
            rows.extend((query_id, *candidate) for candidate in candidates)
            if number % LISTS_PER_BATCH == 0:
                writer.write_batch(_batch(rows, schema))
                rows = []
        if rows:
            writer.write_batch(_batch(rows, schema))


def read_lists(path: Path) -> Iterator[TrainingList]:
    """Read what `write_lists` wrote, list by list."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for i in range(reader.num_record_batches):
            columns = [column.to_pylist() for column in reader.get_batch(i).columns]
            for query_id, rows in groupby(zip(*columns, strict=True), key=itemgetter(0)):
                yield TrainingList(query_id, tuple(Candidate(*row[1:]) for row in rows))


def _batch(rows: list[tuple[Any, ...]], schema: Any) -> Any:
    import pyarrow as pa

    columns = zip(*rows, strict=True)
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
