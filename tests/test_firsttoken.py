"""The last layer for the first token: the same scores and gradients, and nothing else is changed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from secondstage.firsttoken import read_all_tokens, read_first_token
from secondstage.networks import at_precision, load_cross_encoder
from secondstage.reranker import Reranker

from .families import ENCODERS, PAIRS, save_family

KNOWN = ("bert", "electra", "roberta", "xlm-roberta")


def opened(family: str, tiny_model: Path, folder: Path, **settings: Any) -> tuple[Any, Any]:
    torch.manual_seed(3)
    save_family(family, folder, tiny_model, head="classification")
    return load_cross_encoder(str(folder), **settings)


def shapes(network: Any) -> list[tuple[int, ...]]:
    """What the last layer gives for two pairs of eleven tokens."""
    seen: list[tuple[int, ...]] = []
    layer = network.base_model.encoder.layer[-1]
    hook = layer.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
    network(input_ids=torch.full((2, 11), 7), attention_mask=torch.ones(2, 11, dtype=torch.long))
    hook.remove()
    return seen


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", KNOWN)
def test_scores_and_gradients_are_the_same(family: str, attention: str, tiny_model: Path, tmp_path: Path) -> None:
    network, tokenizer = opened(family, tiny_model, tmp_path / family, attn_implementation=attention)
    assert shapes(network) == [(2, 1, 32)]
    whole = copy.deepcopy(network)
    read_all_tokens(whole)
    assert shapes(whole) == [(2, 11, 32)]
    found = []
    for one in (network, whole):
        reranker = Reranker(one, tokenizer, max_length=64)
        rows = reranker.tokenize(PAIRS)
        scores = reranker.logits(reranker.collate(rows, range(len(PAIRS))))
        torch.autograd.backward((scores * torch.arange(1.0, 6.0)).sum())
        found.append((scores, {name: p.grad for name, p in one.named_parameters()}))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)
    assert found[0][0].std() > 0.01
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(gradient, found[1][1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", sorted(set(ENCODERS) - set(KNOWN)))
def test_other_families_are_left_alone(family: str, tiny_model: Path, tmp_path: Path) -> None:
    network, _ = opened(family, tiny_model, tmp_path / family)
    before = [module.__dict__.get("forward") for module in network.modules()]
    assert not read_first_token(network)
    assert [module.__dict__.get("forward") for module in network.modules()] == before


def test_a_copy_computes_with_its_own_weights(tiny_model: Path, tmp_path: Path) -> None:
    network, tokenizer = opened("bert", tiny_model, tmp_path / "bert")
    pairs = [PAIRS[0]]
    before = Reranker(network.eval(), tokenizer, max_length=64).score(pairs)
    half = at_precision(copy.deepcopy(network), "bf16")
    assert shapes(half) == [(2, 1, 32)]
    with torch.no_grad():
        for parameter in half.bert.encoder.layer[-1].parameters():
            parameter.zero_()
    assert Reranker(network, tokenizer, max_length=64).score(pairs) == before
    assert Reranker(half.eval(), tokenizer, max_length=64).score(pairs) != before


def test_what_is_saved_is_the_same(tiny_model: Path, tmp_path: Path) -> None:
    network, tokenizer = opened("bert", tiny_model, tmp_path / "bert")
    Reranker(network, tokenizer, max_length=64).save(tmp_path / "one")
    read_all_tokens(network)
    Reranker(network, tokenizer, max_length=64).save(tmp_path / "other")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
