"""Rows of tokens: scored alone or together with others', they have the scores that the model gives."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage.reranker import Reranker
from secondstage.serve.server.engine import Limits, ModelEngine

PAIRS = [("flour of the bread", "yeast dough crust"), ("king", "queen rook bishop pawn " * 9), ("river", "")]


@pytest.fixture(scope="module")
def model(run_folder: Path) -> Reranker:
    return Reranker.load(run_folder / "bundle" / "reranker", precision="fp32")


def test_scores_are_those_of_the_model(model: Reranker) -> None:
    engine = ModelEngine(model)
    rows = engine.prepare(PAIRS, Limits())
    assert [row.tokens for row in rows] == [len(ids) for ids in model.tokenize(PAIRS)["input_ids"]]
    together = engine.compute(rows)
    assert together == pytest.approx(model.score(PAIRS), abs=1e-5)
    assert np.concatenate([engine.compute([row]) for row in rows]) == pytest.approx(together, abs=1e-5)
    assert together.dtype == np.float32


def test_limits(model: Reranker) -> None:
    engine = ModelEngine(model)
    assert [row.tokens for row in engine.prepare(PAIRS, Limits(pair=20))] == [10, 20, 4]
    assert engine.prepare(PAIRS, Limits(pair=1))[1].tokens == 16  # fewer leave no room for words
    assert [row.tokens for row in engine.prepare(PAIRS, Limits(document=2))] == [9, 6, 4]
    assert engine.prepare(PAIRS, Limits(10_000, 10_000)) == engine.prepare(PAIRS, Limits())
    assert engine.longest == model.max_length == 32


def test_batches_are_cut_as_the_model_cuts_them(model: Reranker) -> None:
    """An engine that computes each pair alone does so in the server, too."""
    lengths = [5, 9, 9, 30]
    assert list(ModelEngine(model).cut(lengths)) == list(model.batches(lengths))
    smaller = ModelEngine(model, 18)
    assert list(smaller.cut(lengths)) == [[3], [1, 2], [0]]
    assert (smaller.batch_tokens, model.batch_tokens) == (18, 8192)


def test_a_tokenizer_that_does_not_tell_where_tokens_end_cuts_the_same_words(model: Reranker) -> None:
    class Slow:
        is_fast = False

        def __call__(self, texts: list[str], **settings: Any) -> Any:
            assert "return_offsets_mapping" not in settings
            return model.tokenizer(texts, **settings)

        def decode(self, ids: list[int]) -> str:
            return str(model.tokenizer.decode(ids))

    engine = ModelEngine(model)
    expected = engine._cut(PAIRS, 2)
    engine.model = copy.copy(model)
    engine.model.tokenizer = Slow()
    assert engine._cut(PAIRS, 2) == expected
    assert expected[1] == ("king", "queen rook")
