"""What is looked at before training."""

from __future__ import annotations

from math import log2
from pathlib import Path

import pytest
import torch

from secondstage.errors import UserError
from secondstage.reranker import Reranker
from secondstage.run import Ranking, Run
from secondstage.train.checks import chance, new_weights, overlapping, refuse_new_head


def test_a_head_that_nobody_trained_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """The tiny model is an encoder; saved as a reranker it has a head, whoever trained it."""
    torch.manual_seed(0)
    assert [name for name in new_weights(str(tiny_model)) if name.startswith("classifier")]
    with pytest.raises(UserError, match=r"train\.model=.*tiny is no trained reranker: it has no .*classifier\.weight"):
        refuse_new_head(str(tiny_model))
    Reranker.load(tiny_model, precision="fp32").save(tmp_path / "reranker")
    assert new_weights(str(tmp_path / "reranker")) == []
    refuse_new_head(str(tmp_path / "reranker"))


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
