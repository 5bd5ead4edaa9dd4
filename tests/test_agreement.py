"""Agreement of teacher and first stage: the extremes, ties, and nothing to compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from secondstage.lists import NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.mine import agreement
from secondstage.mine.agreement import Agreement


def ranked(query_id: str, teacher: Sequence[float | None], positive: int = 0) -> TrainingList:
    """Candidates at rank 1, 2, … with these scores of the teacher."""
    return TrainingList(
        query_id,
        tuple(
            Candidate(f"d{i}", int(i == positive), i == positive, "bm25", i + 1, -float(i), role, "", score)
            for i, score in enumerate(teacher)
            for role in [POSITIVE if i == positive else NEGATIVE]
        ),
    )


def record(*lists: TrainingList) -> Any:
    found = Agreement()
    for training_list in lists:
        found.add(training_list)
    return found.record()["agreement"]


def test_the_same_order_and_the_reverse() -> None:
    same, reverse = ranked("a", [3, 2, 1]), ranked("b", [1, 2, 3])
    assert record(same) == {
        "lists": 1,
        "teacher_first": 1,
        "first_stage_first": 1,
        "kendall": {"lists": 1, "mean": 1.0, "median": 1.0},
    }
    assert record(reverse)["kendall"]["mean"] == -1
    assert record(reverse)["teacher_first"] == 0
    assert record(same, reverse)["kendall"] == {"lists": 2, "mean": 0.0, "median": 1.0}


def test_a_tie_of_the_teacher_keeps_the_first_stage_s_order() -> None:
    found = record(ranked("a", [1, 1, 0]))
    assert found["teacher_first"] == 1
    # Of three pairs one is tied: tau-b is 2 / sqrt(2 · 3).
    assert found["kendall"]["mean"] == pytest.approx(2 / 6**0.5, abs=1e-6)
    assert record(ranked("a", [1, 1]))["kendall"] is None


def test_only_scored_and_found_candidates_count() -> None:
    assert record() is None
    assert record(ranked("a", [None, None])) is None
    assert record(ranked("a", [3.0])) is None
    assert record(ranked("a", [None, 2, 1], positive=0))["lists"] == 0


def test_a_sample_does_not_depend_on_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "CORRELATED", 5)
    lists = [ranked(f"q{i}", [i % 3, 1, i % 5, 2.5]) for i in range(40)]
    found = record(*lists)
    assert found["kendall"]["lists"] == 5
    assert record(*reversed(lists)) == found
