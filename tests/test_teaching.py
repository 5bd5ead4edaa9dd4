"""Several teachers as one: every score is kept, and what they say together is an ensemble's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage.config import TeacherConfig
from secondstage.mine.teaching import Teaching
from secondstage.run import Scores
from secondstage.teachers import Teacher
from secondstage.teachers.ensemble import combine

LISTS = [("flour", ["a", "bbb", "cc"]), ("oven", ["dddd", "e"])]
IDS = [["x", "y", "z"], ["y", "w"]]


class ByLength:
    """Scores a document by its length, times a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def score_lists(self, lists: Sequence[tuple[str, Sequence[str]]], *, label: str | None = None) -> list[Scores]:
        return [np.array([self.factor * len(d) for d in documents], np.float32) for _, documents in lists]

    def report(self) -> Mapping[str, Any]:
        return {"factor": self.factor}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    calls: list[tuple[str, Path]] = []

    def open_teacher(config: TeacherConfig, cache: Path) -> Teacher:
        calls.append((config.model, cache))
        return ByLength(float(config.model))

    monkeypatch.setattr("secondstage.mine.teaching.open_teacher", open_teacher)
    return calls


def test_a_single_teachers_score_is_its_own(opened: list[tuple[str, Path]], tmp_path: Path) -> None:
    teaching = Teaching({"one": TeacherConfig(model="2")}, tmp_path)
    assert opened == [("2", tmp_path)]
    assert teaching.by_document(IDS, LISTS) == [
        {"x": (2.0, (2.0,)), "y": (6.0, (6.0,)), "z": (4.0, (4.0,))},
        {"y": (8.0, (8.0,)), "w": (2.0, (2.0,))},
    ]
    assert teaching.report() == {"one": {"factor": 2.0}}


@pytest.mark.usefixtures("opened")
def test_an_ensemble_keeps_each_score_beside_their_weighted_mean(tmp_path: Path) -> None:
    config = {"long": TeacherConfig(model="1", weight=3.0), "short": TeacherConfig(model="-1", weight=1.0)}
    teaching = Teaching(config, tmp_path)
    assert teaching.names == ("long", "short")
    first, second = teaching.by_document(IDS, LISTS)
    together = combine([np.float32([1, 3, 2]), np.float32([-1, -3, -2])], [3.0, 1.0])
    assert [first[doc_id][0] for doc_id in IDS[0]] == together.tolist()
    assert [first[doc_id][1] for doc_id in IDS[0]] == [(1.0, -1.0), (3.0, -3.0), (2.0, -2.0)]
    assert second["y"][0] > second["w"][0]  # the heavier one has its way
    assert [s.tolist() for s in teaching.score_lists(LISTS)] == [
        together.tolist(),
        [second["y"][0], second["w"][0]],
    ]


def test_without_a_teacher_nothing_is_scored(tmp_path: Path) -> None:
    teaching = Teaching({}, tmp_path)
    assert (teaching.names, teaching.by_document(IDS, LISTS), teaching.report()) == ((), [{}, {}], {})
