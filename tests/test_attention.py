"""Attention with scale and mask in the product: what eager attention gives, forwards and backwards."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from secondstage.config import TrainConfig
from secondstage.networks import load_cross_encoder
from secondstage.train.attention import NAME, attend, use
from secondstage.train.model import start_model

from .families import save_family


@pytest.mark.parametrize("mask", [None, "rows", "whole"])
@pytest.mark.parametrize("tokens", [7, 1])
def test_it_is_the_formula(mask: str | None, tokens: int) -> None:
    torch.manual_seed(1)
    query, key, value = (torch.randn(3, 2, n, 4, dtype=torch.float64, requires_grad=True) for n in (tokens, 7, 7))
    hidden = torch.zeros(3, 1, 1, 7, dtype=torch.float64)
    hidden[1, ..., 5:] = torch.finfo(torch.float64).min
    added = {None: None, "rows": hidden, "whole": hidden.expand(3, 1, tokens, 7)}[mask]
    found, attention = attend(SimpleNamespace(training=True), query, key, value, added, scaling=0.3)
    expected = torch.softmax(0.3 * query @ key.mT + (0 if added is None else added), -1)
    torch.testing.assert_close(attention, expected)
    torch.testing.assert_close(found, (expected @ value).transpose(1, 2))
    assert mask is None or attention[1, ..., 5:].abs().max() == 0
    weights = torch.randn_like(found)
    own = torch.autograd.grad((found * weights).sum(), (query, key, value))
    its = torch.autograd.grad(((expected @ value).transpose(1, 2) * weights).sum(), (query, key, value))
    torch.testing.assert_close(own, its)


def test_dropout_is_for_training() -> None:
    states = torch.randn(1, 1, 50, 4)
    kept, _ = attend(SimpleNamespace(training=False), states, states, states, None, 1.0, dropout=0.5)
    dropped, _ = attend(SimpleNamespace(training=True), states, states, states, None, 1.0, dropout=0.5)
    plain, _ = attend(SimpleNamespace(training=True), states, states, states, None, 1.0)
    torch.testing.assert_close(kept, plain)
    assert (dropped - plain).abs().max() > 0.01


@pytest.mark.parametrize("family", ["bert", "electra", "roberta", "xlm-roberta"])
def test_a_network_gives_the_same(family: str, tiny_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    save_family(family, tmp_path / family, tiny_model, head="classification")
    eager, tokenizer = load_cross_encoder(str(tmp_path / family), attn_implementation="eager")
    own = copy.deepcopy(eager)
    use(own)
    assert own.config._attn_implementation == NAME
    rows: Any = tokenizer(
        ["oven", "key of the piano"], ["bread", "chess of the river"], padding=True, return_tensors="pt"
    )
    found = [network.eval()(**rows).logits for network in (eager, own)]
    torch.testing.assert_close(*found)
    assert found[0].std() > 1e-4


@pytest.mark.parametrize(("precision", "expected"), [("bf16", NAME), ("fp32", "sdpa")])
def test_training_uses_it_where_it_pays(
    precision: Any, expected: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secondstage.train.model.device", lambda: "cpu")
    config = TrainConfig(model=str(tiny_model), steps=1, precision=precision)
    assert start_model(config).model.config._attn_implementation == expected
