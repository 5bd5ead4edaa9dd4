"""The gradient of a step: whole, cut, and made again are the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from secondstage.config import TrainConfig
from secondstage.train.examples import Example
from secondstage.train.gradients import accumulate, as_lists, seed_everything
from secondstage.train.losses import LOSSES
from secondstage.train.model import start_model
from secondstage.train.objective import Objective, targets_of
from secondstage.train.steps import Micro, Step, micro_batches
from secondstage.train.weights import Weights, make_weights

SUM = {"lce": 1, "kl": {"weight": 0.5}}
WORDS = ["river", "water", "bridge", "flood", "garden", "soil", "chess", "king", "queen", "ice", "snow", "frost"]


def examples() -> list[Example]:
    """Lists of different lengths; of the last one nothing counts for losses on labels."""
    found = []
    for i, size in enumerate((4, 2, 7, 3)):
        labels = tuple(2.0 if j == 0 else float(i == 2 and j == 1) for j in range(size))
        teacher = tuple(0.3 * j - i for j in range(size))
        found.append(Example(f"q{i}", tuple(f"d{j}" for j in range(size)), labels, (i < 3,) * size, teacher))
    return found


def text(pair: tuple[str, str]) -> tuple[str, str]:
    i, j = int(pair[0][1:]), int(pair[1][1:])
    return WORDS[i], " ".join(WORDS[(i + j + k) % len(WORDS)] for k in range(1 + (3 * i + 5 * j) % 11))


class Trial:
    """A model, and the gradient of one step of it."""

    def __init__(self, tiny_model: Path, **settings: Any) -> None:
        from accelerate import Accelerator

        usual: dict[str, Any] = {"model": str(tiny_model), "steps": 1, "max_length": 32, "precision": "fp32"}
        config = TrainConfig(**(usual | settings))
        torch.manual_seed(5)
        start = start_model(config)
        with torch.no_grad():
            for parameter in start.model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        self.weights: Weights = make_weights(start.model, config, Accelerator(cpu=True))
        self.scorer = start.with_model(self.weights.working)
        self.objective = Objective(config.loss)
        rows = self.scorer.tokenize([text(pair) for example in examples() for pair in example.pairs])
        lengths = iter(map(len, rows["input_ids"]))
        self.step = Step(
            tuple(examples()), tuple(tuple(next(lengths) for _ in example.doc_ids) for example in examples())
        )
        self.most = 0

    def gradient(self, micros: Sequence[Micro], *, cached: bool = False, **more: Any) -> Tensor:
        self.scorer.model.train()
        counts = self.objective.counts(targets_of(self.step.examples))
        for number, micro in enumerate(micros):
            rows = self.scorer.tokenize([text(pair) for pair in micro.pairs])

            def forward(places: Sequence[int], rows: Any = rows) -> tuple[Tensor, None]:
                self.most = max(self.most, len(places))
                return self.scorer.logits(self.scorer.collate(rows, places)), None

            seeds = 1, 2, number
            accumulate(micro, forward, self.objective, counts, self.weights, seeds=seeds, cached=cached, **more)
        masters = self.weights.master.parameters()
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in masters])


def one_chunk(trial: Trial) -> list[Micro]:
    """All pairs in one pass."""
    (micro,) = micro_batches(trial.step, pass_tokens=10**6)
    assert len(micro.chunks) == 1
    return [micro]


@pytest.mark.parametrize("loss", [*LOSSES, SUM], ids=str)
def test_a_gradient_that_is_added_up_is_that_of_the_whole(tiny_model: Path, loss: Any) -> None:
    whole = Trial(tiny_model, loss=loss)
    wanted = whole.gradient(one_chunk(whole))
    assert wanted.abs().max() > 1e-3
    for memory_tokens in (None, 60, 1):
        parts = Trial(tiny_model, loss=loss)
        micros = micro_batches(parts.step, memory_tokens, pass_tokens=1)
        assert len(micros) == {None: 1, 1: 4}.get(memory_tokens, len(micros))
        assert sum(len(micro.chunks) for micro in micros) > 1
        torch.testing.assert_close(parts.gradient(micros), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [*LOSSES, SUM], ids=str)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_cached_gradient_is_the_same_to_the_bit_dropout_included(tiny_model: Path, loss: Any, precision: str) -> None:
    found = []
    for cached in (False, True):
        trial = Trial(tiny_model, loss=loss, dropout=0.2, precision=precision)
        found.append(trial.gradient(micro_batches(trial.step, pass_tokens=1), cached=cached))
    assert torch.equal(*found)
    without = Trial(tiny_model, loss=loss, dropout=0.0, precision=precision)
    assert not torch.allclose(found[0], without.gradient(micro_batches(without.step, pass_tokens=1)), rtol=0.1)


@pytest.mark.parametrize("cached", [False, True])
def test_passes_in_step_with_other_processes_count_nothing(tiny_model: Path, cached: bool) -> None:
    gradients = []
    for more in ({}, {"passes": 9}, {"idle": True}):
        trial = Trial(tiny_model, dropout=0.2)
        micros = micro_batches(trial.step, pass_tokens=1)
        assert len(micros[0].chunks) < 9
        gradients.append(trial.gradient(micros, cached=cached, **more))
    assert torch.equal(gradients[0], gradients[1])
    assert not gradients[2].any()


def test_a_cached_gradient_keeps_the_activations_of_one_chunk_alone(tiny_model: Path) -> None:
    """What autograd saves at a time, counted by its hooks."""
    peaks = []
    for cached in (False, True):
        trial = Trial(tiny_model)
        alive = peak = 0

        class Kept:
            def __init__(self, tensor: Tensor) -> None:
                nonlocal alive, peak
                self.tensor = tensor.clone()
                alive += tensor.numel()
                peak = max(peak, alive)

            def __del__(self) -> None:
                nonlocal alive
                alive -= self.tensor.numel()

        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            trial.gradient(micro_batches(trial.step, pass_tokens=1), cached=cached)
        peaks.append(peak)
    assert peaks[1] < 0.6 * peaks[0]


@pytest.mark.parametrize("scale", [1.0, 2.0**12])
@pytest.mark.parametrize(("more", "counted"), [({}, 1), ({"passes": 9}, 1), ({"idle": True}, 0)], ids=str)
def test_a_further_loss_of_the_pairs_is_added(
    tiny_model: Path, more: dict[str, Any], counted: int, scale: float
) -> None:
    """The sum of squared scores, beside a loss that is zero everywhere; scaled as every loss, and counted as often."""
    found, outcomes = [], []
    for cached in (False, True):
        trial = Trial(tiny_model)
        trial.weights.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        (micro,) = micro_batches(trial.step, pass_tokens=1)
        rows = trial.scorer.tokenize([text(pair) for pair in micro.pairs])

        def forward(places: Sequence[int], trial: Trial = trial, rows: Any = rows) -> tuple[Tensor, Tensor]:
            scores = trial.scorer.logits(trial.scorer.collate(rows, places))
            return scores, scores.square().sum()

        settings: dict[str, Any] = {"seeds": (0,), "cached": cached, **more}
        outcomes.append(accumulate(micro, forward, trial.objective, {"lce": 10**9}, trial.weights, **settings).further)
        found.append([p.grad for p in trial.weights.master.parameters()])
    trial = Trial(tiny_model)
    rows = trial.scorer.tokenize([text(pair) for pair in one_chunk(trial)[0].pairs])
    scores = trial.scorer.logits(trial.scorer.collate(rows, range(len(rows["input_ids"]))))
    torch.autograd.backward(scores.square().sum())
    assert outcomes == pytest.approx([scores.square().sum().item()] * 2, rel=1e-5)
    for one, other, wanted in zip(*found, trial.weights.master.parameters(), strict=True):
        assert (one is None) == (wanted.grad is None)
        if one is not None and other is not None and wanted.grad is not None:
            assert torch.equal(one, other)
            torch.testing.assert_close(one / scale, counted * wanted.grad, rtol=1e-4, atol=1e-5 * counted)


def test_a_seed_is_a_function_of_its_parts() -> None:
    def drawn(*parts: int) -> float:
        seed_everything(*parts)
        return torch.rand(1).item()

    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    assert len({drawn(*parts) for parts in ((1, 2, 3), (1, 2, 4), (3, 2, 1), (1, 2), (0, 1, 2, 3))}) == 5


@pytest.mark.parametrize(
    ("lengths", "folded", "mask"),
    [
        ([3], [[1, 2, 3]], [[True] * 3]),
        ([1, 2], [[1, 0], [2, 3]], [[True, False], [True, True]]),
        ([2, 1], [[1, 2], [3, 0]], [[True, True], [True, False]]),
        ([1, 1, 1], [[1], [2], [3]], [[True]] * 3),
    ],
)
def test_scores_are_folded_into_lists(
    lengths: Sequence[int], folded: list[list[float]], mask: list[list[bool]]
) -> None:
    found = as_lists(torch.tensor([1.0, 2.0, 3.0]), lengths)
    assert found[0].tolist() == folded
    assert found[1].tolist() == mask


def test_gradients_flow_back_through_the_fold() -> None:
    scores = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    folded, mask = as_lists(scores, [1, 2])
    torch.autograd.backward((folded * torch.tensor([[5.0, 99.0], [7.0, 11.0]]) * mask).sum())
    assert scores.grad is not None
    assert scores.grad.tolist() == [5, 7, 11]
