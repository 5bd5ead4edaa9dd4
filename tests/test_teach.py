"""The stage between teacher and student: what it writes, counts and tells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from secondstage.collection import Collection
from secondstage.config import Bm25Config, DistillConfig, MineConfig, TeacherConfig
from secondstage.errors import UserError
from secondstage.files import file_digest
from secondstage.firststage.bm25 import Bm25
from secondstage.lists import DROPPED, read_index, read_lists
from secondstage.mine import Source, mine, share_teaching
from secondstage.mine.costs import COSTS
from secondstage.mine.teach import teach as teach_stage
from secondstage.synthetic import SYNTHETIC
from secondstage.texts import texts_of_lists
from secondstage.unlabelled import read_unlabelled

from .test_lessons import LOG
from .test_source import Overlap, teach


class Wrong(Overlap):
    """Likes what shares no word with the query."""

    def score(self, query: str, text: str) -> float:
        return -super().score(query, text)


class Failing(Overlap):
    """Gives up at its second call."""

    def score_lists(self, *args: Any, **settings: Any) -> Any:
        if self.lists:
            raise UserError("the teacher has no more to say")
        return super().score_lists(*args, **settings)


@pytest.fixture(scope="module")
def bm25(collection: Collection) -> Bm25:
    return Bm25.build(Bm25Config(), collection.documents)


class Case:
    """What the stage is given."""

    def __init__(self, collection: Collection, bm25: Bm25, folder: Path, monkeypatch: Any, **mining: Any) -> None:
        self.folder, self.mined, self.monkeypatch = folder, folder / "mine", monkeypatch
        self.source = Source(collection, bm25, "bm25", MineConfig(depth=12, negatives=4, **mining), 13, folder)
        self.mined.mkdir()
        mine(self.source, self.mined, dev_depth=6)
        # One of them asks what a test query asks.
        self.known = collection.queries[next(iter(collection.split("test")))]
        (folder / "log.txt").write_text("".join(f"{text}\n" for text in [*LOG, self.known, LOG[0]]))

    def arguments(self, teacher: Overlap, **settings: Any) -> tuple[Source, Path, DistillConfig, Mapping[str, Any]]:
        queries = {"queries": str(self.folder / "log.txt")}
        config = DistillConfig.model_validate({"student": {"steps": 1}, "depth": 8, **queries, **settings})
        return self.source, self.mined, config, {"teacher": teach(self.monkeypatch, teacher)["t0"]}

    def teach(self, name: str, teacher: Overlap, **settings: Any) -> dict[str, Any]:
        (self.folder / name).mkdir()
        return teach_stage(*self.arguments(teacher, **settings), self.folder / name)


@pytest.fixture
def case(collection: Collection, bm25: Bm25, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(collection, bm25, tmp_path, monkeypatch)


def test_a_student_finds_all_that_training_reads(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    details = case.teach("teach", teacher := Overlap())
    folder = case.folder / "teach"
    found = list(read_lists(folder / "train"))
    assert read_index(folder / "train").teachers == ("teacher",)
    queries = read_unlabelled(folder)
    assert sorted(queries.values()) == sorted(LOG)
    assert [one.query_id for one in found[32:]] == list(queries)
    assert file_digest(folder / "dev.trec") == file_digest(case.mined / "dev.trec")
    assert not (folder / SYNTHETIC).exists()
    texts = texts_of_lists(case.source.collection, folder)
    for one in found:
        assert texts([(one.query_id, one.candidates[0].doc_id)])
    kept = [c for one in found for c in one.candidates if c.role != DROPPED]
    assert details["lists"] == len(found) == 32 + len(LOG) == details["lists_with_teacher"]
    assert details["lists_with_labels"] == 32
    assert details["candidates"] == len(kept) == details["candidates_with_teacher"]
    assert (details["unlabelled_queries"], details["unlabelled_taken"]) == (len(LOG) + 2, len(LOG))
    assert details["unlabelled_repeated"] == details["unlabelled_same_text_as_held_out"] == 1
    assert details["teachers"] == {"teacher": {"pairs_scored": teacher.scored, "pairs_found": teacher.found}}
    told = capsys.readouterr().err
    assert f"41 lists, 32 of them with labels, 41 with the teacher's scores, of {len(kept)} candidates" in told
    assert "9 of 11 taken; 1 repeat another one, 1 have the text of a dev or test query" in told


def test_texts_of_queries_made_from_documents_go_with_the_lists(
    collection: Collection, bm25: Bm25, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(collection, bm25, tmp_path, monkeypatch, synthesize={"min_words": 3})
    teacher = Overlap()
    case.teach("teach", teacher, queries=None)
    assert file_digest(tmp_path / "teach" / SYNTHETIC) == file_digest(case.mined / SYNTHETIC)
    lists = list(read_lists(tmp_path / "teach" / "train"))
    texts = texts_of_lists(collection, tmp_path / "teach")
    shown = dict(teacher.lists)
    (one,) = (one for one in lists if one.query_id.startswith("synthetic") and one.candidates[0].doc_id == "bread-0")
    (pair,) = texts([(one.query_id, "bread-0")])
    # The teacher reads what the student will read: the document without its title.
    assert pair[1] in shown[pair[0]]
    assert collection.documents.by_id("bread-0").content not in shown[pair[0]]


@pytest.mark.parametrize(("teacher", "worse"), [(Overlap(), False), (Wrong(), True)])
def test_a_teacher_that_is_worse_than_the_first_stage_is_told(
    case: Case, capsys: pytest.CaptureFixture[str], teacher: Overlap, worse: bool
) -> None:
    dev = case.teach("teach", teacher)["dev"]
    assert dev["queries"] == 16
    assert (dev["teacher"] < dev["first_stage"]) == worse
    told = capsys.readouterr().err
    assert f"teacher on dev: nDCG@10 {dev['teacher']:.4f} (first stage {dev['first_stage']:.4f}, 16 queries)" in told
    assert ("the teacher orders dev worse than the first stage does" in told) == worse


def test_a_teacher_that_costs_money_is_not_asked_about_dev(case: Case) -> None:
    source, mined, config, teachers = case.arguments(teacher := Overlap())
    api = TeacherConfig.model_validate({"kind": "api", "api": {"url": "http://127.0.0.1", "model": "model0"}})
    case.monkeypatch.setattr("secondstage.mine.teaching.open_teacher", lambda config, cache: teacher)
    (case.folder / "teach").mkdir()
    assert teach_stage(source, mined, config, {**teachers, "teacher": api}, case.folder / "teach")["dev"] is None
    dev = {source.collection.queries[query_id] for query_id in source.collection.split("dev")}
    assert not dev & {text for text, _ in teacher.lists}


def test_what_a_failed_teacher_cost_is_told_by_the_next(case: Case) -> None:
    failing = Failing()
    with pytest.raises(UserError, match="no more to say"):
        case.teach("failed", failing)
    teacher = Overlap()
    told = case.teach("teach", teacher)["teachers"]["teacher"]
    assert told["pairs_scored"] == teacher.scored + failing.scored
    assert failing.scored > 0


def test_processes_that_share_keep_what_it_cost(case: Case) -> None:
    share_teaching(*case.arguments(teacher := Overlap()))
    (kept,) = (case.folder / COSTS).glob("*.json")
    assert re.search(rf'"pairs_scored": {teacher.scored}\b', kept.read_text())
