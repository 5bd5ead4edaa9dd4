"""Losses: closed forms, invariances, and gradients."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch import Tensor

from secondstage.train.losses.listwise import lce


def all_of(scores: Tensor) -> Tensor:
    return torch.ones_like(scores, dtype=torch.bool)


def loss(rows: list[list[float]]) -> float:
    """Rows of any length, folded and masked; what is masked holds a huge score."""
    width = max(map(len, rows))
    scores = torch.tensor([row + [1e4] * (width - len(row)) for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    return lce(scores, mask=mask).item()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[0, 0]], log(2)),
        ([[3, 3, 3, 3]], log(4)),
        ([[2, 1]], log(1 + exp(-1))),
        ([[1, 2]], log(1 + exp(1))),
        ([[1, 2, 3]], log(1 + exp(1) + exp(2))),
        # The mean over lists, whatever their lengths.
        ([[0, 0], [0, 0, 0, 0]], (log(2) + log(4)) / 2),
        ([[2, 1, 0], [1, 2]], (log(1 + exp(-1) + exp(-2)) + log(1 + exp(1))) / 2),
        # A positive alone cannot be better: it contributes zero, and counts as a list.
        ([[5]], 0),
        ([[5], [0, 0]], log(2) / 2),
        # Huge scores stay finite.
        ([[1e4, -1e4]], 0),
        ([[-1e4, 1e4]], 2e4),
        ([[-1e30, 1e30]], 2e30),
        ([[1e30, 1e30]], log(2)),
    ],
)
def test_closed_forms(rows: list[list[float]], expected: float) -> None:
    assert loss(rows) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.fixture
def scores() -> Tensor:
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(1))


def test_a_shift_of_a_list_changes_nothing(scores: Tensor) -> None:
    shifts = torch.tensor([[-30.0], [-1.0], [0.0], [2.0], [50.0]])
    assert lce(scores + shifts, mask=all_of(scores)).item() == pytest.approx(
        lce(scores, mask=all_of(scores)).item(), abs=1e-5
    )


def test_the_order_of_lists_and_negatives_does_not_matter_but_the_positive_does(scores: Tensor) -> None:
    before = lce(scores, mask=all_of(scores)).item()
    columns = torch.tensor([0, 5, 3, 7, 1, 2, 6, 4])
    assert lce(scores[:, columns].flip(0), mask=all_of(scores)).item() == pytest.approx(before, abs=1e-6)
    assert lce(scores.flip(1), mask=all_of(scores)).item() != pytest.approx(before, abs=1e-2)


def test_what_is_masked_does_not_count(scores: Tensor) -> None:
    mask = all_of(scores)
    mask[:, 5:] = False
    expected = lce(scores[:, :5], mask=all_of(scores[:, :5])).item()
    for filling in (0.0, 1e9, float("inf"), float("nan")):
        filled = scores.masked_fill(~mask, filling)
        assert lce(filled, mask=mask).item() == pytest.approx(expected, abs=1e-6)


def test_the_gradient_is_softmax_less_one_for_the_positive(scores: Tensor) -> None:
    mask = all_of(scores)
    mask[1, 3:] = mask[4, 1:] = False
    leaf = scores.clone().requires_grad_()
    torch.autograd.backward(lce(leaf, mask=mask))
    expected = torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=1)
    expected[:, 0] -= 1
    assert leaf.grad is not None
    assert torch.allclose(leaf.grad, expected / len(scores), atol=1e-6)
    assert (leaf.grad[~mask] == 0).all()
    assert (leaf.grad[4] == 0).all()


def test_the_gradient_is_what_finite_differences_give(scores: Tensor) -> None:
    leaf = scores.clone().requires_grad_()
    torch.autograd.backward(lce(leaf, mask=all_of(scores)))
    assert leaf.grad is not None
    step = 1e-2
    for place in ((0, 0), (0, 3), (4, 7)):
        up, down = scores.clone(), scores.clone()
        up[place] += step
        down[place] -= step
        slope = (lce(up, mask=all_of(up)) - lce(down, mask=all_of(down))).item() / (2 * step)
        assert leaf.grad[place].item() == pytest.approx(slope, abs=2e-4)


def test_half_precision_scores_have_a_single_precision_loss(scores: Tensor) -> None:
    half = scores.bfloat16()
    found = lce(half, mask=all_of(half))
    assert found.dtype == torch.float32
    assert found.item() == lce(half.float(), mask=all_of(half)).item()


def test_the_gradient_of_huge_scores_is_finite() -> None:
    leaf = torch.tensor([[-1e30, 1e30], [1e30, 0.0]], requires_grad=True)
    torch.autograd.backward(lce(leaf, mask=all_of(leaf)))
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [[-0.5, 0.5], [0, 0]]
