"""What training learns from: lists with what its losses compare with, scored by a teacher where that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage.collection import Collection
from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.lists import DROPPED, IGNORED, NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.networks import load_cross_encoder
from secondstage.reranker import Reranker
from secondstage.texts import PairTexts
from secondstage.train.examples import Shape
from secondstage.train.teaching import scored, taught

from .test_source import Overlap

# What the candidates of a list are, and their teacher's scores.
LISTS: dict[str, list[tuple[str, float | None]]] = {
    "q-bread-0": [(POSITIVE, 2.0), (NEGATIVE, 0.5), (IGNORED, None)],  # labels and scores
    "q-bread-1": [(POSITIVE, None), (NEGATIVE, None), (DROPPED, 1.0)],  # labels
    "q-chess-0": [(IGNORED, 1.0), (IGNORED, -1.0), (DROPPED, 3.0)],  # scores
    "q-chess-1": [(POSITIVE, 1.0), (DROPPED, 0.0)],  # neither: one score compares with nothing
}
BOTH, LABELS, SCORES, NEITHER = LISTS


@pytest.fixture
def texts(collection: Collection) -> PairTexts:
    return PairTexts(collection.queries, collection.documents)


def lists() -> list[TrainingList]:
    made = []
    for query_id, rows in LISTS.items():
        candidates = (
            Candidate(f"bread-{i}", int(role == POSITIVE), False, "bm25", i + 1, 1.0, role, "", score, (score,))
            for i, (role, score) in enumerate(rows)
        )
        made.append(TrainingList(query_id, tuple(candidates)))
    return made


def config(loss: Any, **settings: Any) -> TrainConfig:
    return TrainConfig.model_validate({"steps": 1, "loss": loss, **settings})


@pytest.mark.parametrize(
    ("loss", "taken"),
    [
        ("lce", [BOTH, LABELS]),
        ("kl", [BOTH, SCORES]),
        ({"kl": 1, "lce": 0.5}, [BOTH, LABELS, SCORES]),
        ({"mse": 1, "margin_mse": 1}, [BOTH, SCORES]),
    ],
)
def test_a_list_is_taken_if_a_loss_can_learn_from_it(
    texts: PairTexts, loss: Any, taken: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = taught(lists(), texts, config(loss), None)
    assert [one.query_id for one in found.lists] == taken
    assert found.lists == [one for one in lists() if one.query_id in taken]
    assert found.counts == {
        "lists_taken": len(taken),
        "lists_left_out": 4 - len(taken),
        "lists_with_labels": len({BOTH, LABELS} & {*taken}),
        "lists_with_teacher": len({BOTH, SCORES} & {*taken}),
    }
    told = capsys.readouterr().err
    assert f"{4 - len(taken)} lists have no " in told
    assert ("1 of 3 lists have no teacher's scores: only losses on labels see them" in told) == (len(taken) == 3)


@pytest.mark.parametrize(("loss", "told"), [("kl", True), ("lce", False)])
def test_candidates_that_the_teacher_left_out_are_told(
    texts: PairTexts, loss: str, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the lists with a teacher, for a loss that looks at one: two of five candidates have no score here."""
    rows = [(POSITIVE, 2.0), (NEGATIVE, 0.5), (NEGATIVE, None), (NEGATIVE, None), (IGNORED, 1.0), (DROPPED, None)]
    one = TrainingList(
        BOTH,
        tuple(
            Candidate(f"bread-{i}", int(role == POSITIVE), True, "bm25", i + 1, 1.0, role, teacher_score=score)
            for i, (role, score) in enumerate(rows)
        ),
    )
    taught([one], texts, config(loss), None)
    assert ("2 of 5 candidates of the lists with a teacher have no score of it" in capsys.readouterr().err) is told


def test_candidates_that_no_loss_sees_are_not_drawn(texts: PairTexts) -> None:
    rows = [(POSITIVE, 2.0), (POSITIVE, None), (NEGATIVE, 0.5), (NEGATIVE, None), (IGNORED, None), (IGNORED, 1.0)]
    one = TrainingList(
        BOTH,
        tuple(
            Candidate(f"bread-{i}", int(role == POSITIVE), True, "bm25", i + 1, 1.0, role, teacher_score=score)
            for i, (role, score) in enumerate(rows)
        ),
    )
    drawn = {}
    for loss in ("kl", "lce"):
        (found,) = taught([one], texts, config({loss: 1, "mse": 1}), None).lists
        shape = Shape(9, 9, ignored=True)
        assert shape.teaches(found)
        drawn[loss] = set(shape.draw(found, np.random.default_rng(1)).doc_ids)
    assert drawn == {"kl": {"bread-0", "bread-2", "bread-5"}, "lce": {f"bread-{i}" for i in (0, 1, 2, 3, 5)}}
    # Of two scored positives one is drawn: there is nothing to compare with.
    alone = one._replace(
        candidates=(one.candidates[0], one.candidates[0]._replace(doc_id="bread-6"), *one.candidates[3:5])
    )
    (found,) = taught([alone], texts, config("kl"), None).lists
    assert not Shape(1, 7, ignored=True).teaches(found)


def test_a_loss_that_no_list_has_a_score_for_is_refused(texts: PairTexts) -> None:
    without = [one for one in lists() if one.query_id in (LABELS, NEITHER)]
    with pytest.raises(UserError, match=r"train\.loss names kl, lce, but no list has two .*: give train\.teacher"):
        taught(without, texts, config({"kl": 1, "lce": 1}), None)
    assert len(taught(without, texts, config("lce"), None).lists) == 1


def test_lists_without_labels_teach_no_loss_on_labels(texts: PairTexts) -> None:
    without = [one for one in lists() if one.query_id in (SCORES, NEITHER)]
    with pytest.raises(UserError, match=r"names lce, .* none of 2 lists has both .* a loss that .*teacher's scores"):
        taught(without, texts, config("lce"), None)
    assert len(taught(without, texts, config("kl"), None).lists) == 1


def test_a_teacher_scores_what_training_may_draw(texts: PairTexts, collection: Collection) -> None:
    teacher = Overlap()
    found = scored(lists(), teacher, texts)
    assert [[c._replace(teacher_score=None, teacher_scores=()) for c in one.candidates] for one in found] == [
        [c._replace(teacher_score=None, teacher_scores=()) for c in one.candidates] for one in lists()
    ]
    for one in found:
        for candidate in one.candidates:
            content = collection.documents.by_id(candidate.doc_id).content
            expected = float(teacher.score(collection.queries[one.query_id], content))
            assert candidate.teacher_score == (None if candidate.role == DROPPED else expected)
    assert sum(len(texts) for _, texts in teacher.lists) == 3 + 2 + 2 + 1


def test_the_scores_of_a_model_are_kept(texts: PairTexts, tiny_model: Path, tmp_path: Path, scored: list[int]) -> None:
    teacher = Reranker(*load_cross_encoder(str(tiny_model)), max_length=32)
    teacher.save(tmp_path / "teacher")
    settings = config("kl", teacher=str(tmp_path / "teacher"), precision="fp32")
    first = taught(lists(), texts, settings, tmp_path / "scores")
    assert [one.query_id for one in first.lists] == [BOTH, LABELS, SCORES]
    assert sum(scored) == 8
    assert taught(lists(), texts, settings, tmp_path / "scores").lists == first.lists
    assert sum(scored) == 8
    one = first.lists[0]
    wanted = teacher.score(texts([(one.query_id, c.doc_id) for c in one.candidates]))
    given = [c.teacher_score for c in one.candidates]
    assert np.allclose(np.array(given, np.float32), wanted, atol=0.02)  # bf16 where the processor has it


def test_a_model_that_cannot_teach_is_refused(texts: PairTexts, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot teach as kind cross_encoder"):
        taught(lists(), texts, config("kl", teacher=str(tiny_model)), tmp_path)
