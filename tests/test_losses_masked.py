"""Masks, and the mean over what counts."""

from __future__ import annotations

from math import inf

import pytest
import torch

from secondstage.train.losses.masked import better, clean, mean, sunk

from .lossrows import NAN


@pytest.mark.parametrize(
    ("values", "weights", "expected"),
    [
        ([2, 4], [True, True], 3),
        ([2, 4], [False, True], 4),
        ([2, 4], [3, 1], (3 * 2 + 4) / 4),
        ([2, 4], [False, False], 0),
        # What weighs nothing may be infinite.
        ([inf, 4], [0, 1], 4),
        ([inf, NAN], [False, False], 0),
        ([[2, inf], [4, 6]], [[True, False], [False, True]], 4),
    ],
)
def test_the_mean_is_over_what_has_weight(values: list[float], weights: list[float], expected: float) -> None:
    leaf = torch.tensor([values], dtype=torch.float32, requires_grad=True)
    found = mean(leaf, torch.tensor([weights]))
    assert found.tolist() == [expected]
    torch.autograd.backward(found.sum())
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


def test_cleaning_leaves_nothing_of_what_is_masked() -> None:
    mask = torch.tensor([[True, False, False]])
    scores, targets = clean(torch.tensor([[1, inf, 3]]).half(), torch.tensor([[2, NAN, 5]]), mask)
    assert (scores.tolist(), targets.tolist()) == ([[1, 0, 0]], [[2, 0, 0]])
    assert (scores.dtype, targets.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_softmax_sees_what_is_sunk(dtype: torch.dtype) -> None:
    mask = torch.tensor([[True, False, True], [False, False, False]])
    low = sunk(torch.zeros(2, 3, dtype=dtype), mask)
    assert low.isfinite().all()
    assert torch.softmax(low - 1e6 * mask, dim=1)[0].tolist() == [0.5, 0, 0.5]
    assert (2 * low).isfinite().all()


def test_pairs_are_of_two_that_count() -> None:
    pairs = better(torch.tensor([[2, 1, 1, 0]]), torch.tensor([[True, True, True, False]]))
    assert pairs.nonzero().tolist() == [[0, 0, 1], [0, 0, 2]]
