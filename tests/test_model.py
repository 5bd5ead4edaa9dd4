"""The model that is trained: its start, and its two precisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from secondstage.compute import Precision
from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.reranker import Reranker
from secondstage.train.losses.listwise import lce
from secondstage.train.model import MixedPrecision, start_model

PAIRS = [
    ("water of the river", text) for text in ("river water bridge flood", "garden water soil", "chess king", "ice")
]


def start(tiny_model: Path, **settings: Any) -> tuple[Any, Any]:
    torch.manual_seed(4)
    return start_model(TrainConfig(model=str(tiny_model), steps=1, **settings))


def spread(network: Any) -> Any:
    """Weights large enough for gradients to matter."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
    return network


def mixed(tiny_model: Path, precision: Precision) -> tuple[MixedPrecision, Any]:
    network, tokenizer = start(tiny_model)
    return MixedPrecision(spread(network), precision), tokenizer


def backward(weights: MixedPrecision, tokenizer: Any) -> float:
    """One step up to the gradients; the loss."""
    queries, documents = map(list, zip(*PAIRS, strict=True))
    features = tokenizer(queries, documents, padding=True, return_tensors="pt")
    weights.working.train()
    scores = weights.working(**features).logits.view(2, 2)
    loss = lce(scores, torch.tensor([[1, 0], [1, 0]]), mask=torch.ones(2, 2, dtype=torch.bool)).mean()
    torch.autograd.backward(loss)
    weights.pull_gradients()
    return loss.item()


def gradient(weights: MixedPrecision) -> Tensor:
    return torch.cat([p.grad.flatten() for p in weights.master.parameters() if p.grad is not None])


def dropouts(network: torch.nn.Module) -> set[float]:
    return {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_is_the_configured_one(tiny_model: Path, dropout: float) -> None:
    network, _ = start(tiny_model, dropout=dropout)
    assert dropouts(network) == {dropout}
    assert (network.config.hidden_dropout_prob, network.config.attention_probs_dropout_prob) == (dropout, dropout)
    assert network.config.num_labels == 1


def test_without_dropout_training_computes_what_scoring_does(tiny_model: Path) -> None:
    weights, tokenizer = mixed(tiny_model, "fp32")
    features = tokenizer("water", "river", return_tensors="pt")
    with torch.no_grad():
        training = weights.working.train()(**features).logits.item()
        assert training == pytest.approx(weights.working.eval()(**features).logits.item(), abs=1e-6)


def test_the_new_head_depends_on_the_seed_and_the_rest_is_the_models(tiny_model: Path) -> None:
    from transformers import AutoModel

    one, other = (start(tiny_model)[0] for _ in range(2))
    assert torch.equal(one.classifier.weight, other.classifier.weight)
    torch.manual_seed(5)
    third, _ = start_model(TrainConfig(model=str(tiny_model), steps=1))
    assert not torch.equal(one.classifier.weight, third.classifier.weight)
    base = AutoModel.from_pretrained(tiny_model).state_dict()
    found = one.bert.state_dict()
    assert found.keys() == base.keys()
    assert all(torch.equal(found[name], base[name]) for name in base)


def test_in_single_precision_both_models_are_one(tiny_model: Path) -> None:
    weights, tokenizer = mixed(tiny_model, "fp32")
    assert weights.working is weights.master
    backward(weights, tokenizer)
    before = gradient(weights).clone()
    weights.push_weights()
    weights.pull_gradients()
    assert torch.equal(gradient(weights), before)
    assert before.norm() > 0.1


def test_the_gradient_in_half_precision_is_close(tiny_model: Path) -> None:
    single, tokenizer = mixed(tiny_model, "fp32")
    half, _ = mixed(tiny_model, "bf16")
    assert backward(half, tokenizer) == pytest.approx(backward(single, tokenizer), rel=0.05)
    one, other = gradient(half), gradient(single)
    assert one.dtype == torch.float32
    assert one.shape == other.shape
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.99
    assert (one.norm() / other.norm()).item() == pytest.approx(1, abs=0.05)
    assert not torch.equal(one, other)


def test_gradients_are_moved_and_weights_copied(tiny_model: Path) -> None:
    weights, tokenizer = mixed(tiny_model, "bf16")
    assert weights.working is not weights.master
    master, working = (list(network.parameters()) for network in (weights.master, weights.working))
    assert {p.dtype for p in master} == {torch.float32}
    backward(weights, tokenizer)
    assert all(p.grad is None for p in working)
    assert any(p.grad is not None for p in master)
    # A change far below bf16's resolution is lost in the copy, and kept in the master.
    with torch.no_grad():
        for parameter in master:
            parameter.mul_(1 + 1e-5)
    for old, new in zip(master, working, strict=True):
        assert new.dtype == (torch.float32 if old.shape in ((1, 32), (1,)) else torch.bfloat16)
    weights.push_weights()
    for old, new in zip(master, working, strict=True):
        assert torch.equal(new, old.to(new.dtype))
    assert not torch.equal(working[0].float(), master[0])


def test_many_small_steps_add_up_in_half_precision(tiny_model: Path) -> None:
    """In pure bf16 a step below 2⁻⁸ of a weight would be lost every time."""
    weights, _ = mixed(tiny_model, "bf16")
    first = next(iter(weights.master.parameters()))
    start_at = first.detach().clone()
    for _ in range(100):
        with torch.no_grad():
            first.mul_(1 + 1e-3)
        weights.push_weights()
    working = next(iter(weights.working.parameters())).float()
    assert torch.allclose(working, start_at * (1 + 1e-3) ** 100, rtol=2**-7)


def test_an_unused_parameter_has_no_gradient(tiny_model: Path) -> None:
    weights, tokenizer = mixed(tiny_model, "bf16")
    backward(weights, tokenizer)
    next(iter(weights.master.parameters())).grad = None
    stale = [p.grad is not None for p in weights.master.parameters()]
    assert any(stale)
    weights.pull_gradients()  # nothing was computed since
    assert [p.grad for p in weights.master.parameters()] == [None] * len(stale)


def test_half_precision_trains_the_model_that_is_saved(tiny_model: Path, tmp_path: Path) -> None:
    weights, tokenizer = mixed(tiny_model, "bf16")
    optimizer = torch.optim.SGD(weights.master.parameters(), lr=0.5)
    before = backward(weights, tokenizer)
    optimizer.step()
    weights.push_weights()
    assert backward(weights, tokenizer) < before
    Reranker(weights.master, tokenizer, max_length=32).save(tmp_path)
    saved = Reranker.load(tmp_path, precision="fp32")
    assert all(torch.equal(a, b) for a, b in zip(saved.model.parameters(), weights.master.parameters(), strict=True))


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        start(tmp_path / "nowhere")
