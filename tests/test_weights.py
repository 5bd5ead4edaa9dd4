"""What computes and what is learnt: two precisions, the moving average, and what is kept of both."""

from __future__ import annotations

import copy
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from secondstage.config import TrainConfig
from secondstage.reranker import Reranker
from secondstage.train.losses.listwise import lce
from secondstage.train.model import start_model
from secondstage.train.weights import Weights, buckets, make_weights

PAIRS = [
    ("water of the river", text) for text in ("river water bridge flood", "garden water soil", "chess king", "ice")
]


def mixed(tiny_model: Path, precision: str = "fp32", **settings: Any) -> tuple[Weights, Any]:
    torch.manual_seed(4)
    config = TrainConfig(model=str(tiny_model), steps=1, precision=precision, **settings)  # type: ignore[arg-type]
    start = start_model(config)
    return make_weights(spread(start.model), config, Accelerator(cpu=True)), start.tokenizer


def spread(network: Any) -> Any:
    """Weights large enough for gradients to matter."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
    return network


def backward(weights: Weights, tokenizer: Any) -> float:
    """One step up to the gradients; the loss."""
    queries, documents = map(list, zip(*PAIRS, strict=True))
    features = tokenizer(queries, documents, padding=True, return_tensors="pt")
    weights.working.train()
    scores = weights.working(**features).logits.view(2, 2)
    loss = lce(scores, torch.tensor([[1, 0], [1, 0]]), mask=torch.ones(2, 2, dtype=torch.bool)).mean()
    torch.autograd.backward(weights.scaled(loss))
    weights.pull_gradients()
    return loss.item()


def gradient(weights: Weights) -> Tensor:
    return torch.cat([p.grad.flatten() for p in weights.master.parameters() if p.grad is not None])


def test_without_dropout_training_computes_what_scoring_does(tiny_model: Path) -> None:
    weights, tokenizer = mixed(tiny_model, "fp32")
    features = tokenizer("water", "river", return_tensors="pt")
    with torch.no_grad():
        training = weights.working.train()(**features).logits.item()
        assert training == pytest.approx(weights.working.eval()(**features).logits.item(), abs=1e-6)


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


def test_what_was_pulled_is_not_pulled_again_and_what_is_unused_has_no_gradient(tiny_model: Path) -> None:
    weights, tokenizer = mixed(tiny_model, "bf16")
    backward(weights, tokenizer)
    first = next(iter(weights.master.parameters()))
    first.grad = None
    before = gradient(weights).clone()
    weights.pull_gradients()  # nothing was computed since
    assert first.grad is None
    assert torch.equal(gradient(weights), before)


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


# --- every kind of start


def test_gradients_of_several_passes_add_up_in_single_precision(tiny_model: Path) -> None:
    """257 times the same gradient: in bf16 the sum would stand still where it is 256 times as large as the next."""
    weights, tokenizer = mixed(tiny_model, "bf16")
    backward(weights, tokenizer)
    once = gradient(weights).clone()
    for _ in range(256):
        backward(weights, tokenizer)
    torch.testing.assert_close(gradient(weights), 257 * once, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_is_that_of_adamw_with_clipping(tiny_model: Path, precision: str) -> None:
    weights, tokenizer = mixed(tiny_model, precision, clip=0.1, learning_rate=1e-2, weight_decay=0.1)
    other, _ = mixed(tiny_model, precision)
    backward(weights, tokenizer)
    backward(other, tokenizer)
    masters = dict(other.master.named_parameters())
    decayed = [p for p in masters.values() if p.ndim > 1]
    plain = [p for p in masters.values() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    norm = torch.nn.utils.clip_grad_norm_(masters.values(), 0.1)
    torch.optim.AdamW(groups, lr=0.5e-2).step()
    assert weights.update(0.5) == pytest.approx(norm.item(), rel=1e-5)
    assert norm > 0.1
    for name, parameter in weights.master.named_parameters():
        torch.testing.assert_close(parameter, masters[name], rtol=1e-4, atol=1e-6)
        assert parameter.grad is None
    for master, working in zip(weights.master.parameters(), weights.working.parameters(), strict=True):
        assert torch.equal(working, master.to(working.dtype))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_average_is_kept_and_the_weights_learn_on(tiny_model: Path, precision: str) -> None:
    weights, tokenizer = mixed(tiny_model, precision, ema=0.5, learning_rate=1e-2)
    seen = []
    for _ in range(2):
        backward(weights, tokenizer)
        weights.update(1.0)
        seen.append([p.detach().clone() for p in weights.master.parameters()])
    with weights.kept() as network:
        for kept, first, second, working in zip(network.parameters(), *seen, weights.working.parameters(), strict=True):
            torch.testing.assert_close(kept, first / 3 + 2 * second / 3)
            assert torch.equal(working, kept.to(working.dtype))
    for now, second, working in zip(weights.master.parameters(), seen[1], weights.working.parameters(), strict=True):
        assert torch.equal(now, second)
        assert torch.equal(working, second.to(working.dtype))


def test_loss_scaling_changes_no_step(tiny_model: Path) -> None:
    one, tokenizer = mixed(tiny_model, clip=0.1, learning_rate=1e-2)
    other, _ = mixed(tiny_model, clip=0.1, learning_rate=1e-2)
    other.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    norms = []
    for weights in (one, other):
        backward(weights, tokenizer)
        norms.append(weights.update(1.0))
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
    for a, b in zip(one.master.parameters(), other.master.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_lower_layers_learn_at_a_lower_rate(tiny_model: Path) -> None:
    """The upper layer as the head, at the full rate, of which half is due; each one below at half of that above."""
    weights, tokenizer = mixed(tiny_model, learning_rate=1e-2, layer_decay=0.5)
    before = {name: p.detach().clone() for name, p in weights.master.named_parameters()}
    backward(weights, tokenizer)
    weights.update(0.5)
    # The first step of Adam moves whatever has a gradient by the rate, or a little less.
    moved = {name: (p - before[name]).abs().max().item() for name, p in weights.master.named_parameters()}
    for part, rate in (("classifier", 5e-3), ("layer.1", 5e-3), ("layer.0", 2.5e-3), ("embeddings", 1.25e-3)):
        assert max(found for name, found in moved.items() if part in name) == pytest.approx(rate, rel=0.02)


def test_a_step_that_loss_scaling_skips_is_not_averaged(tiny_model: Path) -> None:
    weights, tokenizer = mixed(tiny_model, ema=0.5, learning_rate=1e-2)
    weights.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    weights.scaler.scale(torch.zeros(()))
    backward(weights, tokenizer)
    weights.update(1.0)
    assert weights.average is not None
    assert weights.average.updates == 1
    backward(weights, tokenizer)
    next(iter(weights.master.parameters())).grad[0] = torch.inf
    weights.update(1.0)
    assert weights.average.updates == 1


@pytest.mark.parametrize("wrong", [torch.inf, torch.nan])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_of_a_gradient_that_is_not_finite_nothing_is_learnt(tiny_model: Path, precision: str, wrong: float) -> None:
    weights, tokenizer = mixed(tiny_model, precision, ema=0.5, learning_rate=1e-2)
    backward(weights, tokenizer)
    weights.update(1.0)
    before = copy.deepcopy(weights.state())
    assert before["average"]["updates"] == 1
    backward(weights, tokenizer)
    next(iter(weights.master.parameters())).grad[0] = wrong
    assert not isfinite(weights.update(1.0))
    torch.testing.assert_close(weights.state(), before, rtol=0, atol=0)
    for master, working in zip(weights.master.parameters(), weights.working.parameters(), strict=True):
        assert master.grad is None
        assert torch.equal(working, master.to(working.dtype))


def test_the_scale_that_a_skipped_step_left_is_restored(tiny_model: Path) -> None:
    """Half of what it began with; the next loss is scaled by it."""
    (one, tokenizer), (other, _) = (mixed(tiny_model) for _ in range(2))
    for weights in (one, other):
        weights.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
        weights.scaler.scale(torch.zeros(()))
    backward(one, tokenizer)
    next(iter(one.master.parameters())).grad[0] = torch.inf
    one.update(1.0)
    assert other.scaled(torch.ones(())) == 2**12
    other.restore(one.state())
    assert one.scaled(torch.ones(())) == other.scaled(torch.ones(())) == 2**11


@pytest.mark.parametrize("settings", [{}, {"ema": 0.9}, {"freeze_layers": 1, "layer_decay": 0.5}], ids=str)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_restored_goes_on_to_the_bit(
    tiny_model: Path, tmp_path: Path, precision: str, settings: dict[str, Any]
) -> None:
    one, tokenizer = mixed(tiny_model, precision, **settings)
    backward(one, tokenizer)
    one.update(1.0)
    torch.save(one.state(), tmp_path / "state.pt")
    other, _ = mixed(tiny_model, precision, **settings)
    other.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    for weights in (one, other):
        backward(weights, tokenizer)
        weights.update(0.7)
    with one.kept() as first, other.kept() as second:
        for a, b in zip(first.parameters(), second.parameters(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("sizes", "size", "found"),
    [([3, 3, 3], 6, [[3, 3], [3]]), ([7, 1, 1], 6, [[7], [1, 1]]), ([], 6, []), ([6], 6, [[6]])],
)
def test_gradients_are_sent_in_buckets(sizes: list[int], size: int, found: list[list[int]]) -> None:
    tensors = [torch.zeros(n) for n in sizes]
    assert [[tensor.numel() for tensor in group] for group in buckets(tensors, size)] == found
