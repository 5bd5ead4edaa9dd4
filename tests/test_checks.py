"""What is looked at before training."""

from __future__ import annotations

from math import log2
from pathlib import Path
from typing import Any

import pytest
import torch

from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.lists import DROPPED, NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.reranker import Reranker
from secondstage.run import Ranking, Run
from secondstage.train.checks import chance, compare_teacher, new_weights, overlapping, refuse_new_head

from .families import save_family


def test_a_head_that_nobody_trained_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """The tiny model is an encoder; saved as a reranker it has a head, whoever trained it."""
    torch.manual_seed(0)
    new = TrainConfig(model=str(tiny_model), steps=0)
    assert [name for name in new_weights(new) if name.startswith("classifier")]
    with pytest.raises(UserError, match=r"train\.model=.*tiny is no trained reranker: it has no .*classifier\.weight"):
        refuse_new_head(new)
    Reranker.load(tiny_model, precision="fp32").save(tmp_path / "reranker")
    trained = TrainConfig(model=str(tmp_path / "reranker"), steps=0)
    assert new_weights(trained) == []
    refuse_new_head(trained)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_decoder_without_its_words_is_refused(family: str, tiny_model: Path, tmp_path: Path) -> None:
    """Saved without the head that predicts tokens: its yes and no would be random, unless they are its embeddings."""
    config = TrainConfig(model=str(save_family(family, tmp_path / family, tiny_model)), head="yes_no", steps=0)
    if family == "qwen3":
        refuse_new_head(config)
    else:
        with pytest.raises(UserError, match=r"no trained reranker: it has no lm_head\.weight"):
            refuse_new_head(config)


def test_what_training_gives_away_is_told_in_words() -> None:
    found = {"same_text": 1, "near_duplicate": 0, "document": 1, "any": 2}
    said = "gives 2 of 4 dev queries away (1 share their text, nearly, with a training query, 1 a relevant document)"
    assert said in overlapping(found, 4)
    assert overlapping({}, 4) == ""


@pytest.mark.parametrize(("given_away", "found"), [(0, False), (1, False), (2, True)])
def test_a_tenth_of_dev_may_be_given_away(given_away: int, found: bool) -> None:
    counts = {"same_text": 0, "near_duplicate": 0, "document": given_away, "any": given_away}
    assert bool(overlapping(counts, 10)) is found


def test_chance_is_the_mean_over_random_orders() -> None:
    """One relevant document among four: the mean of 1 / log2(rank + 1) over the ranks."""
    ids = ("w", "x", "y", "z")
    run = Run("first", {f"q{i}": Ranking(ids, torch.arange(4.0, 0, -1).numpy(), ("r",) * 4) for i in range(200)})
    qrels = {query_id: {"x": 1} for query_id in run}
    expected = sum(1 / log2(rank + 1) for rank in range(1, 5)) / 4
    value, error = chance(run, qrels, 13)
    assert value == pytest.approx(expected, abs=0.02)
    ranks = [1 / log2(rank + 1) for rank in range(1, 5)]
    spread = (sum((gain - expected) ** 2 for gain in ranks) / 4) ** 0.5
    assert error == pytest.approx(spread / 200**0.5, rel=0.5)
    assert chance(run, qrels, 13) == (value, error)


def candidate(doc_id: str, rank: int, teacher: float | None, relevance: int = 0, **more: Any) -> Candidate:
    """The first stage's scores fall with the rank."""
    role = POSITIVE if relevance else NEGATIVE
    given = Candidate(doc_id, relevance, relevance > 0, "bm25", rank, 10.0 - rank, role, teacher_score=teacher)
    return given._replace(**more)


def test_a_teacher_is_compared_on_what_the_first_stage_found() -> None:
    """By hand: a relevant document at rank r is worth 1 / log2(r + 1); also dropped candidates are in the way."""
    lists = [
        # The first stage has it third, the teacher second.
        TrainingList(
            "a",
            (
                candidate("d", 3, 0.5, 1),
                candidate("e", 1, 0.9, role=DROPPED),
                candidate("f", 2, 0.1),
                candidate("late", 0, 2.0, 1),  # the first stage did not find it
                candidate("unscored", 4, None, 1),
            ),
        ),
        # First, and last of two.
        TrainingList("b", (candidate("d", 1, -1.0, 1), candidate("e", 2, 1.0))),
        TrainingList("no label", (candidate("d", 1, -1.0), candidate("e", 2, 1.0))),
        TrainingList("a rule's label", (candidate("d", 1, -1.0, 1, judged=False), candidate("e", 2, 1.0))),
        TrainingList("no order", tuple(candidate(d, i, 1.0 - i, i, score=0.0) for i, d in ((1, "d"), (2, "e")))),
    ]
    second, third = 1 / log2(3), 1 / log2(4)
    found = compare_teacher(lists)
    assert found.teacher == pytest.approx((second + second) / 2)
    assert found.first_stage == pytest.approx((third + 1) / 2)
    assert found.error == pytest.approx(abs((second - third) - (second - 1)) / 2)
    assert found.lists == 2
    assert compare_teacher(lists[1:2] * 6, most=3).lists == 1  # a query counts once
    assert compare_teacher([one._replace(query_id=str(i)) for i, one in enumerate(lists[1:2] * 6)], most=3).lists == 3
    unlabelled = [lists[2]._replace(query_id=f"log {i}") for i in range(50)]
    assert compare_teacher([*lists[:2], *unlabelled], most=10).lists == compare_teacher(lists[:2]).lists > 0
    assert compare_teacher(lists[2:]).lists == 0
    assert compare_teacher([]) == (0.0, 0.0, 0.0, 0)
