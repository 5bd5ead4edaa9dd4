"""Training lists: for every query its candidates, each with where it came from, what was decided, and why.

Stored as a folder of Arrow shards, one row a query, with `lists.json` written last: it has the version of the schema,
the names of the teachers, and the counts. Millions of candidates are read without holding them as Python objects twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from .errors import UserError
from .files import read_json, write_json

# Raised whenever the columns change.
SCHEMA = 2
INDEX = "lists.json"
LISTS_PER_SHARD = 4096

POSITIVE = "positive"
NEGATIVE = "negative"
IGNORED = "ignored"
DROPPED = "dropped"
ROLES = (POSITIVE, NEGATIVE, IGNORED, DROPPED)

# Where a candidate that the first stage did not find comes from.
FROM_QRELS = "qrels"
FROM_CORPUS = "random"


class Candidate(NamedTuple):
    """One document of a training list.

    Attributes:
        doc_id: the document.
        relevance: its judgement, or that of the positive it was relabelled after; 0 if there is none.
        judged: whether the qrels, or a review, judge it.
        retriever: who found it, e.g. "bm25+dense"; "qrels" for a positive that the first stage missed, "random" for one
            drawn from the corpus.
        rank: its rank in the first stage's list, from 1; 0 if it is not in it.
        score: the first stage's score; 0 if it is not in its list.
        role: what training does with it: "positive", "negative", "ignored" (in the list, masked in the loss) or
            "dropped" (not in the list).
        decision: why, in one word or two: "qrels", "sampled", or the rule that decided.
        teacher_score: of the teachers together; none without one.
        teacher_scores: of each teacher, in the order of the lists' index.
    """

    doc_id: str
    relevance: int
    judged: bool
    retriever: str
    rank: int
    score: float
    role: str
    decision: str = ""
    teacher_score: float | None = None
    teacher_scores: tuple[float | None, ...] = ()


class TrainingList(NamedTuple):
    """One query and all its candidates, also those that were dropped."""

    query_id: str
    candidates: tuple[Candidate, ...]

    def with_role(self, role: str) -> tuple[Candidate, ...]:
        """The candidates that play this role."""
        return tuple(candidate for candidate in self.candidates if candidate.role == role)


class ListsIndex(NamedTuple):
    """What `lists.json` says.

    Attributes:
        schema: the version of the columns.
        teachers: the names of the teachers, in the order of `Candidate.teacher_scores`.
        lists: how many there are.
        candidates: how many these hold.
        shards: the file names, in order.
    """

    schema: int
    teachers: tuple[str, ...]
    lists: int
    candidates: int
    shards: tuple[str, ...]


def write_lists(
    folder: Path, lists: Iterable[TrainingList], teachers: Sequence[str] = (), *, per_shard: int = LISTS_PER_SHARD
) -> ListsIndex:
    """Write training lists as Arrow shards into a new folder, the index last."""
    folder.mkdir(parents=True)
    source = iter(lists)
    shards: list[str] = []
    count = candidates = 0
    while part := list(islice(source, per_shard)):
        shards.append(f"{len(shards):05}.arrow")
        _write_shard(folder / shards[-1], part)
        count += len(part)
        candidates += sum(len(found.candidates) for found in part)
    index = ListsIndex(SCHEMA, tuple(teachers), count, candidates, tuple(shards))
    write_json(folder / INDEX, index._asdict())
    return index


def read_index(folder: Path) -> ListsIndex:
    """What `lists.json` says.

    Raises:
        UserError: there is none, or the lists have another schema.
    """
    record = read_json(folder / INDEX)
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else None
        raise UserError(
            f"{folder} holds training lists of schema {found!r}; this version reads schema {SCHEMA}: mine them again"
        )
    return ListsIndex(SCHEMA, tuple(record["teachers"]), record["lists"], record["candidates"], tuple(record["shards"]))


def read_lists(folder: Path) -> Iterator[TrainingList]:
    """Read what `write_lists` wrote, list by list.

    Raises:
        UserError: as `read_index`, or a shard is missing.
    """
    import pyarrow as pa

    for name in read_index(folder).shards:
        if not (folder / name).is_file():
            raise UserError(f"{folder} lacks the shard {name}: mine the lists again")
        with pa.memory_map(str(folder / name)) as source:
            reader = pa.ipc.open_file(source)
            for i in range(reader.num_record_batches):
                batch = reader.get_batch(i)
                starts = batch.column("candidates").offsets.to_pylist()
                values = batch.column("candidates").values
                columns = [values.field(column).to_pylist() for column in Candidate._fields]
                columns[-1] = list(map(tuple, columns[-1]))
                candidates = list(map(Candidate, *columns))
                for row, query_id in enumerate(batch.column("query_id").to_pylist()):
                    yield TrainingList(query_id, tuple(candidates[starts[row] : starts[row + 1]]))


def has_labels(found: TrainingList) -> bool:
    """Whether a list has both a positive and a negative: what a loss on labels learns from."""
    return bool(found.with_role(POSITIVE) and found.with_role(NEGATIVE))


def has_teacher(found: TrainingList) -> bool:
    """Whether a teacher scored two candidates that training may take: what a loss on its scores learns from."""
    return sum(c.teacher_score is not None and c.role != DROPPED for c in found.candidates) > 1


def _candidate_type() -> Any:
    import pyarrow as pa

    text = pa.large_string()
    types = (text, pa.int32(), pa.bool_(), text, pa.int32(), pa.float32(), text, text, pa.float32())
    return pa.struct(zip(Candidate._fields, (*types, pa.list_(pa.float32())), strict=True))


def _write_shard(path: Path, lists: Sequence[TrainingList]) -> None:
    import pyarrow as pa

    kind = _candidate_type()
    schema = pa.schema([("query_id", pa.large_string()), ("candidates", pa.list_(kind))])
    offsets = [0]
    for found in lists:
        offsets.append(offsets[-1] + len(found.candidates))
    columns = list(zip(*(candidate for found in lists for candidate in found.candidates), strict=True))
    arrays = [pa.array(columns[i] if columns else [], kind.field(i).type) for i in range(kind.num_fields)]
    structs = pa.StructArray.from_arrays(arrays, fields=list(kind))
    nested = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        ids = pa.array([found.query_id for found in lists], pa.large_string())
        writer.write_batch(pa.record_batch([ids, nested], schema=schema))
