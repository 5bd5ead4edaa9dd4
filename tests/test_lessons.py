"""A student's lists: every candidate scored, what no label speaks for is ignored, and who searched does not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from secondstage.collection import Collection
from secondstage.config import Bm25Config, DistillConfig, MineConfig
from secondstage.firststage import search_run
from secondstage.firststage.bm25 import Bm25
from secondstage.lists import DROPPED, IGNORED, NEGATIVE, POSITIVE, Candidate, TrainingList, read_lists
from secondstage.mine import Source, mine
from secondstage.mine.lessons import TAUGHT, Lessons
from secondstage.mine.sample import STRATA
from secondstage.mine.teaching import Teaching
from secondstage.parallel import Workers

from .test_source import Overlap, teach

LOG = [f"{word} of a {topic}" for topic in ("bread", "river", "piano") for word in ("key", "water", "oven")]


@pytest.fixture(scope="module")
def bm25(collection: Collection) -> Bm25:
    return Bm25.build(Bm25Config(), collection.documents)


@pytest.fixture(scope="module")
def mined(collection: Collection, bm25: Bm25, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mined") / "mine"
    folder.mkdir()
    mine(Source(collection, bm25, "bm25", MineConfig(depth=12, negatives=4), 13, folder.parent), folder, dev_depth=6)
    return folder


class Case:
    """Lessons of a teacher who counts shared words."""

    def __init__(self, collection: Collection, bm25: Bm25, mined: Path, folder: Path, monkeypatch: Any) -> None:
        self.collection, self.bm25, self.mined, self.folder = collection, bm25, mined, folder
        self.monkeypatch = monkeypatch
        (folder / "log.txt").write_text("".join(f"{text}\n" for text in LOG))

    def lessons(self, overlap: Overlap, **settings: Any) -> Lessons:
        queries = {"queries": str(self.folder / "log.txt")}
        config = DistillConfig.model_validate({"student": {"steps": 1}, "depth": 8, **queries, **settings})
        source = Source(self.collection, self.bm25, "bm25", MineConfig(), 13, self.folder)
        named = teach(self.monkeypatch, overlap)
        return Lessons(source, self.mined, config, Teaching({"teacher": named["t0"]}, self.folder))


@pytest.fixture
def case(collection: Collection, bm25: Bm25, mined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(collection, bm25, mined, tmp_path, monkeypatch)


def expected(case: Case, teacher: Overlap, found: TrainingList, candidate: Candidate, text: str) -> float:
    return float(teacher.score(text, case.collection.documents.by_id(candidate.doc_id).content))


def test_labelled_lists_keep_their_labels_and_gain_what_mining_dropped(case: Case) -> None:
    teacher = Overlap()
    lessons = case.lessons(teacher, queries=None)
    before, after = list(read_lists(case.mined / "train")), list(lessons.lists())
    assert len(after) == len(before) == len(lessons) == 32
    gained = 0
    for old, new in zip(before, after, strict=True):
        assert old.query_id == new.query_id
        for was, now in zip(old.candidates, new.candidates, strict=True):
            scored = was.role != DROPPED or 0 < was.rank <= 8
            gained += was.role == DROPPED and scored
            assert now.role == (IGNORED if was.role == DROPPED and scored else was.role)
            text = case.collection.queries[new.query_id]
            score = expected(case, teacher, new, was, text) if scored else None
            assert (now.teacher_score, now.teacher_scores) == (score, (score,))
            # All else is as it was, the reason for which it was dropped as well.
            assert now._replace(role=was.role, teacher_score=None, teacher_scores=()) == was
        assert new.with_role(POSITIVE)
        assert new.with_role(NEGATIVE)
    assert gained > 60


def test_unlabelled_lists_are_the_first_stages_without_a_label(case: Case) -> None:
    teacher = Overlap()
    lessons = case.lessons(teacher)
    queries = lessons.unlabelled.queries
    assert sorted(queries.values()) == sorted(LOG)
    after = list(lessons.lists())
    assert len(after) == len(lessons) == 32 + len(LOG)
    run = search_run(case.bm25, case.collection.documents.ids, queries, 8)
    for new in after[32:]:
        assert tuple(c.doc_id for c in new.candidates) == run[new.query_id].doc_ids
        assert {(c.role, c.decision, c.judged, c.relevance) for c in new.candidates} == {(IGNORED, TAUGHT, False, 0)}
        assert [c.rank for c in new.candidates] == list(range(1, len(new.candidates) + 1))
        for candidate in new.candidates:
            score = expected(case, teacher, new, candidate, queries[new.query_id])
            assert (candidate.teacher_score, candidate.teacher_scores) == (score, (score,))


def test_some_candidates_are_drawn_over_the_range_of_the_scores(case: Case) -> None:
    few = {found.query_id: found for found in case.lessons(Overlap(), candidates=6).lists()}
    everything = {found.query_id: found for found in case.lessons(Overlap()).lists()}
    assert few.keys() == everything.keys()
    assert STRATA >= 6  # so that each of them is from a part of its own, where the parts hold something
    for query_id, found in few.items():
        whole = everything[query_id]
        assert [c.doc_id for c in found.candidates] == [c.doc_id for c in whole.candidates]
        kept, there = (sum(c.role != DROPPED for c in one.candidates) for one in (found, whole))
        assert kept == min(6, there)
        words = [TAUGHT, *(["not sampled"] if query_id.startswith("unlabelled") else [])]
        for was, now in zip(whole.candidates, found.candidates, strict=True):
            assert now._replace(role=was.role, decision=was.decision) == was
            assert now.decision == was.decision or [was.decision, now.decision] == words
        for role in (POSITIVE, NEGATIVE):
            assert found.with_role(role) == whole.with_role(role)
        scores = [c.teacher_score for c in whole.with_role(IGNORED) if c.teacher_score is not None]
        left = [c.teacher_score for c in found.with_role(IGNORED) if c.teacher_score is not None]
        if query_id.startswith("unlabelled") and len(set(scores)) > 1:
            assert max(left) == max(scores) > min(left) == min(scores)
    assert few == {found.query_id: found for found in case.lessons(Overlap(), candidates=6).lists()}


def test_a_list_with_enough_labels_is_given_nothing_more(case: Case) -> None:
    for found in case.lessons(Overlap(), candidates=2).lists():
        labelled = len(found.with_role(POSITIVE)) + len(found.with_role(NEGATIVE))
        assert sum(c.role != DROPPED for c in found.candidates) == max(2, labelled)


def test_scores_that_mining_has_are_not_asked_for_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, miners = case.folder / "taught", Overlap()
    folder.mkdir()
    config = MineConfig(depth=12, negatives=4, teachers=teach(monkeypatch, miners))
    mine(Source(case.collection, case.bm25, "bm25", config, 13, case.folder), folder, dev_depth=6)
    case.mined = folder
    teacher = Overlap()
    lessons = case.lessons(teacher, teacher="mine")
    before, after = list(read_lists(folder / "train")), list(lessons.lists())
    assert {text for text, _ in teacher.lists} == set(LOG)
    for old, new in zip(before, after[:32], strict=True):
        assert [c.teacher_score for c in new.candidates] == [c.teacher_score for c in old.candidates]
        within = [c.rank for c in old.with_role(DROPPED) if 0 < c.rank <= 8]
        assert [c.rank for c in new.with_role(IGNORED)] == sorted([*within, *(c.rank for c in old.with_role(IGNORED))])
    assert all(c.teacher_score is not None for new in after[32:] for c in new.candidates)


@pytest.mark.parametrize("size", [2, 3])
def test_the_parts_of_all_processes_are_the_whole(case: Case, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, alone = Overlap(), list(case.lessons(Overlap()).lists())
    monkeypatch.setattr("secondstage.mine.lessons.QUERIES_PER_SHARD", 5)
    monkeypatch.setattr("secondstage.mine.search.QUERIES_PER_SHARD", 4)
    assert list(case.lessons(whole).lists()) == alone
    asked: list[tuple[str, list[str]]] = []
    for rank in range(size):
        teacher = Overlap()
        case.lessons(teacher).share(Workers(rank, size))
        assert 0 < len(teacher.lists) < len(whole.lists)
        asked += teacher.lists
    assert sorted(asked) == sorted(whole.lists)
