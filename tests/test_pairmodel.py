"""What all kinds of rerankers share: the interface that training and serving use, and batches within a budget."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from secondstage.errors import UserError
from secondstage.networks import at_precision
from secondstage.pairmodel import CONTRACT, PairModel, read_contract, token_budget
from secondstage.rerankers import Kind, load_reranker
from secondstage.scorecache import CachedScorer

from .families import PAIRS, save_family

KINDS: tuple[Kind, ...] = ("classification", "yes_no")


@pytest.fixture(params=KINDS)
def scorer(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> PairModel:
    head = {"classification": "none", "yes_no": "tokens"}[request.param]
    folder = save_family("qwen3", tmp_path, tiny_model, head=head)
    return load_reranker(folder, kind=request.param, max_length=400, precision="fp32")


def test_logits_of_any_places_are_the_scores(scorer: PairModel) -> None:
    trainable = scorer
    scores = trainable.score(PAIRS)
    rows = trainable.tokenize(PAIRS)
    assert {len(values) for values in rows.values()} == {len(PAIRS)}
    for places in ([0], [4, 1], [2, 2, 0, 3]):
        features = trainable.collate(rows, places)
        width = max(len(rows["input_ids"][i]) for i in places)
        assert {tuple(tensor.shape) for tensor in features.values()} == {(len(places), width)}
        found = trainable.logits(features)
        assert found.requires_grad
        assert found.dtype == torch.float32
        assert found.tolist() == pytest.approx(scores[places].tolist(), abs=1e-4)


def test_another_network_computes_under_the_same_contract(scorer: PairModel) -> None:
    scores = scorer.score(PAIRS)

    half = scorer.with_model(at_precision(copy.deepcopy(scorer.model), "bf16"))
    assert type(half) is type(scorer)
    assert (half.max_length, half.tokenizer, half.wording) == (scorer.max_length, scorer.tokenizer, scorer.wording)
    assert half.score(PAIRS).tolist() != scores.tolist()
    assert scorer.score(PAIRS).tolist() == scores.tolist()


def test_the_overhead_is_all_that_is_neither_query_nor_document(scorer: PairModel) -> None:
    assert scorer.overhead == len(scorer.tokenize([("", "")])["input_ids"][0])


@pytest.mark.parametrize(
    "content", ["[]", '"x"', '{"max_length": "many"}', '{"max_length": 0}', '{"max_length": true}']
)
def test_a_contract_that_is_none_is_told_with_its_place(content: str, tmp_path: Path) -> None:
    (tmp_path / CONTRACT).write_text(content)
    with pytest.raises(UserError, match=r"score\.json is no score contract: .* max_length is a whole number"):
        read_contract(str(tmp_path))


@pytest.mark.parametrize(("engine", "words"), [("torch", "train it again"), ("openvino", "as openvino computes it")])
def test_a_score_that_is_not_finite_is_told_with_what_computed_it(
    scorer: PairModel, engine: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(scorer), "logits", lambda self, features: torch.full((len(PAIRS),), float("nan")))
    scorer.engine = engine
    with pytest.raises(UserError, match=words):
        scorer.score(PAIRS)


def test_of_what_was_computed_before_a_kill_no_batch_is_lost(
    scorer: PairModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, pairs = scorer.score(PAIRS), len(PAIRS)
    scorer.batch_tokens = 1  # a pair is a batch
    logits, left = type(scorer).logits, iter(range(2))

    def killed(self: PairModel, features: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return logits(self, features)

    cached = CachedScorer(scorer, tmp_path / "scores")
    with monkeypatch.context() as patch:
        patch.setattr(type(scorer), "logits", killed)
        with pytest.raises(KeyboardInterrupt):
            cached.score(PAIRS)
    cached = CachedScorer(scorer, tmp_path / "scores")
    assert cached.score(PAIRS).tolist() == pytest.approx(whole.tolist(), abs=1e-4)
    assert (cached.found, cached.scored) == (2, pairs - 2)


@given(lengths=st.lists(st.integers(1, 300), max_size=200), batch_tokens=st.integers(1, 2000))
@example(lengths=[], batch_tokens=1)
@example(lengths=[50, 50, 50], batch_tokens=100)
@example(lengths=[101, 1], batch_tokens=100)
def test_batches_hold_every_index_once_and_keep_within_the_budget(lengths: list[int], batch_tokens: int) -> None:
    batches = list(token_budget(lengths, batch_tokens))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    widths = [max(lengths[i] for i in batch) for batch in batches]
    for batch, width in zip(batches, widths, strict=True):
        assert len(batch) == 1 or width * len(batch) <= batch_tokens
    # Longest first, and no batch is closed before it is full.
    assert widths == sorted(widths, reverse=True)
    for batch, width in zip(batches[:-1], widths[:-1], strict=True):
        assert width * (len(batch) + 1) > batch_tokens


@pytest.mark.parametrize(
    ("lengths", "batch_tokens", "batches"),
    [
        ([50, 50, 50], 100, [[0, 1], [2]]),
        ([10, 40, 20, 30], 80, [[1, 3], [2, 0]]),
        ([101, 1, 1], 100, [[0], [1, 2]]),
        ([5], 1, [[0]]),
        ([], 8, []),
    ],
)
def test_batches_by_hand(lengths: list[int], batch_tokens: int, batches: list[list[int]]) -> None:
    assert list(token_budget(lengths, batch_tokens)) == batches
