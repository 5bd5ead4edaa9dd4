"""A teacher whose scores are in a TREC run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from secondstage.collection import Collection, Documents
from secondstage.config import Bm25Config, MineConfig, TeacherConfig
from secondstage.errors import UserError
from secondstage.firststage.bm25 import Bm25
from secondstage.lists import read_lists
from secondstage.mine import Source, mine
from secondstage.mine.teaching import Teaching
from secondstage.teachers import identities, identity, open_teacher
from secondstage.teachers.ensemble import combine
from secondstage.teachers.scoresfile import ScoresFile
from secondstage.texts import PairTexts


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.trec"
    path.write_text("q Q0 d1 1 4.5 large\nq Q0 d0 2 -1.25 large\nr Q0 d2 1 3 large\n")
    return path


def config(path: Path, **more: float) -> TeacherConfig:
    return TeacherConfig.from_json({"kind": "run", "run": str(path), **more})


def test_scores_are_looked_up_by_id(file: Path, tmp_path: Path) -> None:
    teacher = open_teacher(config(file), tmp_path)
    assert isinstance(teacher, ScoresFile)
    found = teacher.look_up([("q", ["d0", "d2", "d1"]), ("unknown", ["d0"]), ("r", [])])
    np.testing.assert_array_equal(found[0], np.array([-1.25, np.nan, 4.5], np.float32))
    assert [len(scores) for scores in found] == [3, 1, 0]
    assert math.isnan(found[1][0])
    assert teacher.report() == {"lists": 3, "pairs": 4, "found": 2}


def test_ties_stay_ties(tmp_path: Path) -> None:
    """A run is read so that each document has its own place; of a teacher's grades, no order may be made up."""
    (tmp_path / "grades.trec").write_text("q Q0 a 1 2 llm\nq Q0 b 2 2 llm\nq Q0 c 3 2 llm\nq Q0 d 4 0 llm\n")
    (found,) = ScoresFile(tmp_path / "grades.trec").look_up([("q", ["a", "b", "c", "d"])])
    assert found.tolist() == [2.0, 2.0, 2.0, 0.0]


def test_of_texts_alone_a_file_says_nothing(file: Path) -> None:
    (found,) = ScoresFile(file).score_lists([("q", ["d0", "d1"])])
    assert np.isnan(found).tolist() == [True, True]


def test_it_teaches_alone_and_beside_others(
    file: Path, tmp_path: Path, as_documents: Callable[[Sequence[str]], Documents]
) -> None:
    texts = PairTexts({"q": "query", "r": "other"}, as_documents(["four", "fives", "sixsix"]))
    asked = [("q", ["d0", "d1", "d2"]), ("r", ["d1", "d2"])]
    assert Teaching({"file": config(file)}, tmp_path).score(asked, texts) == [
        {"d0": (-1.25, (-1.25,)), "d1": (4.5, (4.5,)), "d2": (None, (None,))},
        {"d1": (None, (None,)), "d2": (3.0, (3.0,))},
    ]
    other = tmp_path / "other.trec"
    other.write_text("q Q0 d0 1 2 x\nq Q0 d1 2 1 x\nq Q0 d2 3 0 x\n")
    both = Teaching({"file": config(file, weight=3), "other": config(other)}, tmp_path)
    first, second = both.score(asked, texts)
    together = combine([np.array([-1.25, 4.5, np.nan], np.float32), np.array([2, 1, 0], np.float32)], [3, 1])
    assert [first[doc_id] for doc_id in ("d0", "d1", "d2")] == [
        (together[0], (-1.25, 2.0)),
        (together[1], (4.5, 1.0)),
        (together[2], (None, 0.0)),
    ]
    assert second["d1"] == (None, (None, None))
    assert both.report()["file"] == {"lists": 2, "pairs": 5, "found": 3}


def test_it_is_the_same_while_its_file_is(file: Path, tmp_path: Path) -> None:
    before, copy = identity(config(file)), tmp_path / "copy.trec"
    copy.write_bytes(file.read_bytes())
    assert identity(config(copy)) == before
    with pytest.raises(UserError, match="one and the same teacher"):
        identities({"a": config(file), "b": config(copy)})
    copy.write_text(file.read_text().replace("4.5", "4.25"))
    assert identity(config(copy)) != before


def test_a_bad_file_is_told_before_the_work(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.trec is not there; give a TREC run"):
        identity(config(tmp_path / "none.trec"))
    file.write_text("q Q0 d1 1 4.5 large\nq d2 3\n")
    with pytest.raises(UserError, match="line 2: not `query_id Q0 doc_id rank score name`"):
        identity(config(file))


@pytest.mark.parametrize("known", [True, False])
def test_a_file_of_other_ids_is_told_of(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, known: bool
) -> None:
    query_id = next(iter(collection.split("train"))) if known else "other"
    lines = [f"{query_id} Q0 {doc_id} 1 {i} t\n" for i, doc_id in enumerate(collection.documents.ids)]
    (tmp_path / "teacher.trec").write_text("".join(lines))
    (tmp_path / "mine").mkdir()
    mining = MineConfig(teachers={"file": config(tmp_path / "teacher.trec")}, max_share=None)
    bm25 = Bm25.build(Bm25Config(), collection.documents)
    counts = mine(Source(collection, bm25, "bm25", mining, 1, tmp_path), tmp_path / "mine", dev_depth=5)
    told = capsys.readouterr().err
    assert ("teacher.trec has a score for none of the" in told) is not known
    assert bool(counts["teachers"]["file"]["found"]) is known
    scored = [c.teacher_score for found in read_lists(tmp_path / "mine" / "train") for c in found.candidates]
    assert any(score is not None for score in scored) is known


def test_it_needs_its_file_and_cannot_judge_queries_that_are_made() -> None:
    with pytest.raises(ValidationError, match="the kind run needs run, and nothing else of model, endpoint, api, run"):
        TeacherConfig(kind="run")
    with pytest.raises(ValidationError, match="the kind run needs run"):
        TeacherConfig.from_json({"kind": "run", "run": "a", "model": "b"})
    scored = {"kind": "run", "run": "teacher.trec"}
    with pytest.raises(ValidationError, match="synthesize asks the teachers about queries that no file of scores has"):
        MineConfig.from_json({"teachers": {"file": scored}, "synthesize": {"generator": "title"}})
    MineConfig.from_json({"teachers": {"file": scored, "model": {"model": "m"}}, "synthesize": {"generator": "title"}})
    MineConfig.from_json({"teachers": {"file": scored}})
