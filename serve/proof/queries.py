"""The queries of one test set, and what a sceptic should know of them before any figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from secondstage.collection import Collection, Qrels
from secondstage.errors import UserError
from secondstage.leakage import Leak, Met, find_leaks, met_in_training
from secondstage.splits import answerable, choose_answerable

FEW = 30


class QuerySet(NamedTuple):
    """One test set.

    Attributes:
        split: its name.
        queries: text by query id.
        qrels: the judgements of these queries; each has a relevant document.
        synthetic: the ids of those that no person typed.
        leaks: what training and dev give away of them.
        against: what was looked through: train, dev.
        notes: what was left out or is dubious, counted.
    """

    split: str
    queries: Mapping[str, str]
    qrels: Qrels
    synthetic: frozenset[str]
    leaks: list[Leak]
    against: tuple[str, ...]
    notes: list[str]

    @property
    def origin(self) -> str:
        """Who wrote the queries: "human", "synthetic", or "mixed"."""
        return "human" if not self.synthetic else "synthetic" if len(self.synthetic) == len(self.queries) else "mixed"


def query_set(
    collection: Collection, split: str, max_queries: int | None, seed: int, met: Met | None = None
) -> QuerySet:
    """Choose the queries of a split, count what is left out, and look for leaks.

    Queries are given away by what training met, and by the dev split, which choices were made on. Where it is not known
    what training met (`met`), the train split is taken for it.

    Raises:
        UserError: there is no such split, or none of its queries has a relevant document.
    """
    judged = collection.split(split)
    relevant = answerable(judged)
    if not relevant:
        raise UserError(
            f"split {split!r} of collection {collection.name!r} has no query with a relevant document "
            f"({len(judged)} queries are judged): nothing can be measured on it"
        )
    qrels = choose_answerable(judged, max_queries, seed)
    if met is None:
        met = met_in_training(collection, None, trained=True)
    others = {"train": met.qrels, "dev": collection.qrels.get("dev", {})}
    others = {name: qrels for name, qrels in others.items() if qrels}
    unknown = {d for j in qrels.values() for d, r in j.items() if r > 0 and d not in collection.documents}
    notes = []
    if left := len(judged) - len(relevant):
        notes.append(f"{left} judged queries without a relevant document are left out: no order of theirs is better")
    if len(qrels) < len(relevant):
        notes.append(f"{len(qrels)} of {len(relevant)} queries were chosen (evaluate.max_queries, seed {seed})")
    if unknown:
        notes.append(f"{len(unknown)} relevant documents are not in the collection and count as missed")
    if len(qrels) < FEW:
        notes.append(f"{len(qrels)} {'query shows' if len(qrels) == 1 else 'queries show'} very little: judge more")
    return QuerySet(
        split,
        {query_id: collection.queries[query_id] for query_id in qrels},
        qrels,
        frozenset(collection.synthetic.intersection(qrels)),
        find_leaks({**collection.queries, **met.queries}, qrels, others),
        tuple(others),
        notes,
    )


def given_slices(files: Mapping[str, str], queries: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """The parts of a test set that the user's files name, by name; a file has a query id at the start of every line.

    Raises:
        UserError: a file cannot be read.
    """
    parts = {}
    for name, file in files.items():
        try:
            lines = Path(file).expanduser().read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"evaluate.slices: {name}: {file} cannot be read: {error}") from None
        ids = {line.split()[0] for line in lines if line.split()}
        inside = [query_id for query_id in queries if query_id in ids]
        if inside:
            parts[name] = {"in it": inside, "not in it": [query_id for query_id in queries if query_id not in ids]}
    return parts


def left_out(files: Mapping[str, str], parts: Mapping[str, object]) -> list[str]:
    """What to say of the files that name no query of a test set: a misspelt id would go unnoticed."""
    return [
        f"evaluate.slices: {name} is left out, as {files[name]} names none of these"
        for name in files
        if name not in parts
    ]
