"""Several teachers as one: every score is kept, and what they say together is an ensemble's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from secondstage.collection import Documents
from secondstage.config import TeacherConfig
from secondstage.mine import teaching as teaching_module
from secondstage.mine.teaching import Teaching, merge_reports
from secondstage.run import Scores
from secondstage.synthetic import SyntheticQuery
from secondstage.teachers import Teacher
from secondstage.teachers.ensemble import combine
from secondstage.texts import PairTexts

AsDocuments = Callable[[Sequence[str]], Documents]
LISTS = [("flour", ["a", "bbb", "cc"]), ("oven", ["dddd", "e"])]
IDS = [("q1", ["x", "y", "z"]), ("q2", ["y", "w"])]


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
    together = combine([np.array([1, 3, 2], np.float32), np.array([-1, -3, -2], np.float32)], [3.0, 1.0])
    assert [first[doc_id][0] for doc_id in IDS[0][1]] == together.tolist()
    assert [first[doc_id][1] for doc_id in IDS[0][1]] == [(1.0, -1.0), (3.0, -3.0), (2.0, -2.0)]
    heavy, light = second["y"][0], second["w"][0]
    assert heavy is not None
    assert light is not None
    assert heavy > light  # the heavier one has its way
    assert [s.tolist() for s in teaching.score_lists(LISTS)] == [
        together.tolist(),
        [heavy, light],
    ]


def test_without_a_teacher_nothing_is_scored(as_documents: AsDocuments, tmp_path: Path) -> None:
    teaching, texts = Teaching({}, tmp_path), PairTexts({}, as_documents([]), [])
    assert (teaching.names, teaching.score(IDS, texts), teaching.report()) == ((), [{}, {}], {})


class Shy(ByLength):
    """Gives no score to what is shorter than its factor, and remembers under which names it works."""

    labels: ClassVar[list[str | None]] = []

    def score_lists(self, lists: Sequence[tuple[str, Sequence[str]]], *, label: str | None = None) -> list[Scores]:
        self.labels.append(label)
        return [np.where(scores < self.factor**2, np.nan, scores) for scores in super().score_lists(lists)]


@pytest.fixture
def shy(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    monkeypatch.setattr("secondstage.mine.teaching.open_teacher", lambda config, cache: Shy(float(config.model)))
    monkeypatch.setattr(Shy, "labels", [])
    return Shy.labels


@pytest.mark.usefixtures("shy")
def test_what_a_teacher_left_out_is_none(tmp_path: Path) -> None:
    assert Teaching({"one": TeacherConfig(model="2")}, tmp_path).by_document(IDS, LISTS) == [
        {"x": (None, (None,)), "y": (6.0, (6.0,)), "z": (4.0, (4.0,))},
        {"y": (8.0, (8.0,)), "w": (None, (None,))},
    ]
    both = Teaching({"two": TeacherConfig(model="2"), "three": TeacherConfig(model="3")}, tmp_path)
    first, second = both.by_document(IDS, LISTS)
    assert {doc_id: single for doc_id, (_, single) in first.items()} == {
        "x": (None, None),
        "y": (6.0, 9.0),
        "z": (4.0, None),
    }
    # Of three lengths, "two" scores 3 and 2: 1 and -1; "three" scores 3 alone, which tells nothing: 0.
    assert {doc_id: together for doc_id, (together, _) in first.items()} == {"x": None, "y": 0.5, "z": -1.0}
    assert second == {"y": (0.0, (8.0, 12.0)), "w": (None, (None, None))}
    assert np.isnan(both.score_lists(LISTS)[0]).tolist() == [True, False, False]


def test_each_teachers_work_has_a_name(shy: list[str | None], tmp_path: Path) -> None:
    teaching = Teaching({"a": TeacherConfig(model="1"), "b": TeacherConfig(model="2")}, tmp_path)
    teaching.by_document(IDS, LISTS, label="teach")
    teaching.by_document(IDS, LISTS)
    assert shy == ["teach a", "teach b", None, None]


class Seen(ByLength):
    """Remembers the lists that it is asked about together."""

    calls: ClassVar[list[list[tuple[str, list[str]]]]] = []

    def score_lists(self, lists: Sequence[tuple[str, Sequence[str]]], *, label: str | None = None) -> list[Scores]:
        self.calls.append([(query, list(documents)) for query, documents in lists])
        return super().score_lists(lists, label=label)


@pytest.mark.parametrize(("characters", "parts"), [(1, [1, 1, 1]), (10, [2, 1]), (1 << 26, [3])])
def test_a_shard_is_scored_part_by_part_and_a_text_of_a_part_is_one_string(
    as_documents: AsDocuments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, characters: int, parts: list[int]
) -> None:
    monkeypatch.setattr(teaching_module, "open_teacher", lambda config, cache: Seen(float(config.model)))
    monkeypatch.setattr(teaching_module, "CHARACTERS", characters)
    monkeypatch.setattr(Seen, "calls", [])
    contents = ["four", "fives", "sixsix", "a title and more"]
    made = SyntheticQuery("synthetic-1", "a title", "d3", "title", "given")
    texts = PairTexts({"q": "query", "r": "other"}, as_documents(contents), [made])
    asked = [("q", ["d0", "d1"]), ("r", ["d1", "d0", "d2"]), ("synthetic-1", ["d3", "d1", "d1"])]
    found = Teaching({"one": TeacherConfig(model="1")}, tmp_path).score(asked, texts)
    assert [len(call) for call in Seen.calls] == parts
    lists = [each for call in Seen.calls for each in call]
    assert lists == [
        (texts.queries[query_id], [document for _, document in texts([(query_id, doc_id) for doc_id in doc_ids])])
        for query_id, doc_ids in asked
    ]
    assert found == [
        {doc_id: (float(len(text)), (float(len(text)),)) for doc_id, text in zip(doc_ids, documents, strict=True)}
        for (_, doc_ids), (_, documents) in zip(asked, lists, strict=True)
    ]
    assert lists[2][1][1] is lists[2][1][2]
    assert (lists[0][1][0] is lists[1][1][1]) == (parts[0] > 1)


def test_reports_of_several_objects_add_up() -> None:
    first = {"a": {"pairs": 3, "cost": 0.5, "name": "x"}, "b": {"pairs": 1}}
    second = {"a": {"pairs": 4, "cost": 0.25, "name": "y", "refused": 2}, "c": {"pairs": 9}}
    kept = copy.deepcopy((first, second))
    assert merge_reports(first, second) == {
        "a": {"pairs": 7, "cost": 0.75, "name": "y", "refused": 2},
        "b": {"pairs": 1},
        "c": {"pairs": 9},
    }
    assert (first, second) == kept
    assert merge_reports(first, {}) == merge_reports({}, first) == first
    assert merge_reports({"there": True, "n": None}, {"there": True, "n": 1}) == {"there": True, "n": 1}
