"""A pointwise teacher: really called, once a pair, and all lists together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from secondstage.errors import UserError
from secondstage.run import Scores
from secondstage.scorecache import CachedScorer
from secondstage.scoring import Random
from secondstage.teachers.pointwise import PointwiseTeacher

LISTS: list[tuple[str, list[str]]] = [
    ("red", ["a", "b", "c"]),
    ("blue", []),
    ("green", ["b"]),
    ("red", ["c", "d"]),
    ("", []),
]


class Counting:
    """Scores as `Random(3)` does, and keeps what it is asked."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[str, str]]] = []

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        self.calls.append(list(pairs))
        return Random(3).score(pairs)


def test_every_list_gets_its_scores_in_one_call(tmp_path: Path) -> None:
    counting = Counting()
    teacher = PointwiseTeacher("t", CachedScorer(counting, tmp_path / "scores"))
    found = teacher.score_lists(LISTS)
    assert [scores.tolist() for scores in found] == [
        Random(3).score([(query, document) for document in documents]).tolist() for query, documents in LISTS
    ]
    # ("red", "c") comes twice.
    assert [len(call) for call in counting.calls] == [5]
    report = teacher.report()
    assert 0 <= report.pop("seconds") < 60
    assert report == {"lists": 5, "pairs": 6, "scored": 5}


def test_a_second_run_calls_nobody_but_says_the_same(tmp_path: Path) -> None:
    first = PointwiseTeacher("t", CachedScorer(Counting(), tmp_path / "scores")).score_lists(LISTS)
    counting = Counting()
    teacher = PointwiseTeacher("t", CachedScorer(counting, tmp_path / "scores"), lambda: {"requests": 7})
    again = teacher.score_lists(LISTS)
    assert counting.calls == []
    assert [scores.tolist() for scores in again] == [scores.tolist() for scores in first]
    assert (teacher.report()["scored"], teacher.report()["requests"]) == (0, 7)


def test_no_lists_are_no_scores(tmp_path: Path) -> None:
    assert PointwiseTeacher("t", CachedScorer(Counting(), tmp_path / "scores")).score_lists([]) == []


def test_scores_that_are_not_finite_are_told(tmp_path: Path) -> None:
    class Broken:
        def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
            return np.array([np.nan if document == "b" else 1 for _, document in pairs], np.float32)

    teacher = PointwiseTeacher("large", CachedScorer(Broken(), tmp_path / "scores"))
    with pytest.raises(UserError, match="teacher large: 2 of 6 scores are not finite"):
        teacher.score_lists(LISTS)
    gaps = PointwiseTeacher("api", CachedScorer(Broken(), tmp_path / "scores"), gaps=True)
    found = gaps.score_lists(LISTS)
    assert [np.isnan(scores).tolist() for scores in found] == [[False, True, False], [], [True], [False, False], []]


def test_a_gap_may_be_no_infinity(tmp_path: Path) -> None:
    class Infinite:
        def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
            return np.full(len(pairs), np.inf, np.float32)

    teacher = PointwiseTeacher("api", CachedScorer(Infinite(), tmp_path / "scores"), gaps=True)
    with pytest.raises(UserError, match="teacher api: 6 of 6 scores are not finite"):
        teacher.score_lists(LISTS)
