"""A run: for every query the documents that a system ranked, best first, with their scores. TREC files in and out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import UserError

Scores = npt.NDArray[np.float32]
LARGEST = float(np.finfo(np.float32).max)


class Ranking(NamedTuple):
    """The documents of one query, best first.

    Attributes:
        doc_ids: `[n]` document ids, without repetition.
        scores: `[n]` scores, strictly decreasing, so that any reader of a TREC file sees this very order.
        retrievers: `[n]` who found each document, e.g. "bm25", "dense", "bm25+dense".
    """

    doc_ids: tuple[str, ...]
    scores: Scores
    retrievers: tuple[str, ...]

    def cut(self, depth: int | None) -> Ranking:
        """The first `depth` documents; none means all."""
        return Ranking(self.doc_ids[:depth], self.scores[:depth], self.retrievers[:depth])

    def scores_of(self, doc_ids: Sequence[str]) -> Scores:
        """The score of each of these documents, all of which it ranks."""
        by_id = dict(zip(self.doc_ids, self.scores, strict=True))
        return np.array([by_id[doc_id] for doc_id in doc_ids], dtype=np.float32)


def strictly_decreasing(scores: npt.ArrayLike) -> Scores:
    """Lower each score that is not below the one before it to the next representable number.

    trec_eval orders ties by document id, which has nothing to do with the order a system meant. Single precision,
    because that is what trec_eval reads.

    Raises:
        ValueError: a score is not finite in single precision, or there is no number below it to lower a tie to.
    """
    result = single_precision(scores)
    with np.errstate(over="ignore"):
        for i in range(1, len(result)):
            if result[i] >= result[i - 1]:
                result[i] = np.nextafter(result[i - 1], np.float32(-np.inf))
    return single_precision(result)


def all_tied(scores: Sequence[float]) -> bool:
    """Whether these scores of one list differ by no more than `strictly_decreasing` may have moved equal ones apart."""
    if not len(scores):
        return True
    low, high = min(scores), max(scores)
    largest = np.float32(max(abs(low), abs(high)))
    return high - low <= len(scores) * float(largest - np.nextafter(largest, np.float32(0)))


def single_precision(scores: npt.ArrayLike) -> Scores:
    """A copy in single precision; `ValueError` if a score is not finite there."""
    with np.errstate(over="ignore"):
        result = np.array(scores, dtype=np.float32)
    if not np.isfinite(result).all():
        raise ValueError("a score is not finite")
    return result


def rank(doc_ids: Sequence[str], scores: npt.ArrayLike, retrievers: Sequence[str]) -> Ranking:
    """Order documents by score, best first; ties keep the order given (that of the stage before).

    Raises:
        ValueError: lengths differ, a document is there twice, or a score is not finite in single precision.
    """
    values = single_precision(scores)
    if len(values) != len(doc_ids):
        raise ValueError(f"{len(doc_ids)} documents, but {len(values)} scores")
    if len(set(doc_ids)) < len(doc_ids):
        twice = next(doc_id for i, doc_id in enumerate(doc_ids) if doc_id in doc_ids[:i])
        raise ValueError(f"document {twice!r} is there twice")
    order: list[int] = np.argsort(-values, kind="stable").tolist()
    return Ranking(
        tuple(doc_ids[i] for i in order), strictly_decreasing(values[order]), tuple(retrievers[i] for i in order)
    )


class Run(Mapping[str, Ranking]):
    """Rankings by query id, under the name of the system that made them, which is one word."""

    def __init__(self, name: str, rankings: Mapping[str, Ranking]) -> None:
        if name.split() != [name]:
            raise ValueError(f"a run's name is a column of a TREC file: {name!r} is empty or holds white space")
        self.name = name
        self._rankings = dict(rankings)

    def __getitem__(self, query_id: str) -> Ranking:
        return self._rankings[query_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rankings)

    def __len__(self) -> int:
        return len(self._rankings)

    def top(self, depth: int) -> Run:
        """The same run, cut to its first `depth` documents."""
        return Run(self.name, {query_id: ranking.cut(depth) for query_id, ranking in self._rankings.items()})

    def only(self, query_ids: Iterable[str]) -> Run:
        """The same run for these queries alone, in their order; those that it does not answer stay unanswered."""
        return Run(self.name, {query_id: self._rankings[query_id] for query_id in query_ids if query_id in self})

    def named(self, name: str) -> Run:
        """The same rankings under another name."""
        return Run(name, self._rankings)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every (query id, document id), query by query, best first."""
        for query_id, ranking in self._rankings.items():
            for doc_id in ranking.doc_ids:
                yield query_id, doc_id

    def rescored(self, name: str, scores: npt.ArrayLike) -> Run:
        """The same candidates ordered by new `scores`, given in the order of `pairs`; ties keep this run's order."""
        values = single_precision(scores)
        rankings, start = {}, 0
        for query_id, ranking in self._rankings.items():
            end = start + len(ranking.doc_ids)
            rankings[query_id] = rank(ranking.doc_ids, values[start:end], ranking.retrievers)
            start = end
        if start != len(values):
            raise ValueError(f"{start} candidates, but {len(values)} scores")
        return Run(name, rankings)

    def write_trec(self, path: Path) -> None:
        """Write `query_id Q0 doc_id rank score name`, one line a document; ranks start at 1."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            for query_id, ranking in self._rankings.items():
                for i, (doc_id, score) in enumerate(zip(ranking.doc_ids, ranking.scores, strict=True)):
                    file.write(f"{query_id} Q0 {doc_id} {i + 1} {float(score)!r} {self.name}\n")


def read_trec(path: Path) -> Run:
    """Read a TREC run made by anyone, ordered as trec_eval orders it: by score, ties by descending document id.

    Raises:
        UserError: a line has not six columns, a score is no finite number in single precision, a document is there
            twice for a query, or several of one query have the lowest number there is.
    """
    found, name = read_trec_scores(path)
    rankings = {}
    for query_id, scores in found.items():
        doc_ids = sorted(scores, reverse=True)
        try:
            rankings[query_id] = rank(doc_ids, [scores[doc_id] for doc_id in doc_ids], [name] * len(doc_ids))
        except ValueError:  # each score is finite, so that only a tie had nowhere to go
            raise UserError(
                f"{path}: query {query_id!r} has tied documents at {-LARGEST!r}, the lowest number in single "
                "precision, below which there is none to order them by: give them a higher score, such as -1e9, or "
                "leave their lines out"
            ) from None
    return Run(name, rankings)


def read_trec_scores(path: Path) -> tuple[dict[str, dict[str, float]], str]:
    """The scores of a TREC run by query and document ids, ties as they are, and the run's name.

    Raises:
        UserError: as `read_trec`, but for ties.
    """
    found: dict[str, dict[str, float]] = {}
    # A file without a line tells no name, and that of a file may hold spaces.
    name = "-".join(path.stem.split()) or "run"
    for number, columns in trec_columns(path):
        if len(columns) != 6:
            raise UserError(f"{path}, line {number}: not `query_id Q0 doc_id rank score name`: {' '.join(columns)!r}")
        if not _is_finite(columns[4]):
            raise UserError(
                f"{path}, line {number}: the score {columns[4]!r} is no finite number in single precision, so it has "
                "no place in an order: mend the run, or leave the line out"
            )
        query_id, _, doc_id, _, score, name = columns
        if doc_id in found.setdefault(query_id, {}):
            raise UserError(f"{path}, line {number}: document {doc_id!r} is there twice for query {query_id!r}")
        found[query_id][doc_id] = float(score)
    return found, name


def trec_columns(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The columns of every line of a TREC run that is not blank, with its number from 1; a byte order mark is dropped.

    Raises:
        UserError: the file is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from ((number, line.split()) for number, line in enumerate(file, 1) if line.strip())
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error}") from None


def _is_finite(text: str) -> bool:
    try:
        return abs(float(text)) <= LARGEST
    except ValueError:
        return False
