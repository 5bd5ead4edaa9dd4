"""Listwise losses: closed forms."""

from __future__ import annotations

from itertools import permutations
from math import exp, log
from typing import Any

import pytest
import torch

from secondstage.train.losses.listwise import lce, listmle, listnet, p_listmle

from .lossrows import Row, folded, value


def against(score: float, *others: float) -> float:
    return -log(exp(score) / (exp(score) + sum(map(exp, others))))


@pytest.mark.parametrize(
    ("scores", "labels", "settings", "expected"),
    [
        ([0, 0], [1, 0], {}, log(2)),
        ([3, 3, 3, 3], [0, 1, 0, 0], {}, log(4)),
        ([2, 1], [1, 0], {}, log(1 + exp(-1))),
        ([1, 2, 3], [1, 0, 0], {}, log(1 + exp(1) + exp(2))),
        ([1, 2, 3], [1, 0, 0], {"temperature": 0.5}, log(1 + exp(2) + exp(4))),
        # Positives do not compete with each other, and their grades do not matter.
        ([1, 2, 3, 0], [1, 0, 3, 0], {}, (against(1, 2, 0) + against(3, 2, 0)) / 2),
        # Nothing to compare.
        ([5], [1], {}, 0),
        ([5, 3], [1, 2], {}, 0),
        ([5, 3], [0, 0], {}, 0),
        ([], [], {}, 0),
        ([1e4, -1e4], [1, 0], {}, 0),
        ([-1e4, 1e4], [1, 0], {}, 2e4),
        ([-1e30, 1e30], [1, 0], {}, 2e30),
        ([1e30, 1e30], [1, 0], {}, log(2)),
    ],
)
def test_lce(scores: Row, labels: Row, settings: dict[str, Any], expected: float) -> None:
    assert value(lce, scores, labels, **settings) == pytest.approx(expected)


def test_the_gradient_of_lce_is_softmax_less_one_for_the_positive() -> None:
    scores, mask = folded([[0.3, -1, 2, 0.1], [1, 0.5], [3]])
    labels, _ = folded([[0, 1, 0, 0], [1, 0], [1]])
    leaf = scores.clone().requires_grad_()
    torch.autograd.backward(lce(leaf, labels, mask=mask).sum())
    expected = torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=1) - (labels == 1).float()
    assert leaf.grad is not None
    assert torch.allclose(leaf.grad, expected, atol=1e-6)
    assert (leaf.grad[~mask] == 0).all()
    assert (leaf.grad[2] == 0).all()


@pytest.mark.parametrize(
    ("scores", "labels", "settings", "expected"),
    [
        ([0, 0], [1, 0], {}, log(2)),
        ([2, 0], [1, 0], {}, (exp(1) * against(2, 0) + against(0, 2)) / (exp(1) + 1)),
        ([2, 0], [1, 0], {"temperature": 0.5}, (exp(2) * against(2, 0) + against(0, 2)) / (exp(2) + 1)),
        ([2, 0, 1], [2, 1, 0],
         {}, (exp(2) * against(2, 0, 1) + exp(1) * against(0, 2, 1) + against(1, 2, 0)) / (exp(2) + exp(1) + 1)),
        ([2, 0], [1, 1], {}, 0),
        ([2], [1], {}, 0),
        ([], [], {}, 0),
        ([-1e4, 1e4], [1, 0], {}, 2e4 * exp(1) / (exp(1) + 1)),
    ],
)  # fmt: skip
def test_listnet(scores: Row, labels: Row, settings: dict[str, Any], expected: float) -> None:
    assert value(listnet, scores, labels, **settings) == pytest.approx(expected)


MLE: list[tuple[Row, Row, float]] = [
    ([0, 0], [1, 0], log(2)),
    ([1, 2, 3], [2, 1, 0], against(1, 2, 3) + against(2, 3)),
    ([1, 2, 3], [0, 1, 2], against(3, 1, 2) + against(2, 1)),
    # What has the same label does not compete: of binary labels it is LCE, summed.
    ([1, 2, 3, 0], [1, 0, 1, 0], against(1, 2, 0) + against(3, 2, 0)),
    ([1, 2, 3, 0], [2, 1, 1, 0], against(1, 2, 3, 0) + against(2, 0) + against(3, 0)),
    ([4, 2], [1, 1], 0),
    ([4], [1], 0),
    ([], [], 0),
    ([-1e4, 1e4], [1, 0], 2e4),
]


@pytest.mark.parametrize(("scores", "labels", "expected"), MLE)
def test_listmle(scores: Row, labels: Row, expected: float) -> None:
    assert value(listmle, scores, labels) == pytest.approx(expected)


def test_listmle_gives_the_orders_of_a_list_a_probability_of_one_together() -> None:
    scores = [0.3, -1.2, 2.1, 0.7]
    assert sum(exp(-value(listmle, scores, order)) for order in permutations(range(4))) == pytest.approx(1)


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        # 2^(3 − r) − 1 is 3, 1, 0.
        ([1, 2, 3], [2, 1, 0], (3 * against(1, 2, 3) + against(2, 3)) / 4),
        ([1, 2], [1, 0], against(1, 2)),
        # 7, 3, 1, 0; the ranks 1 and 2 are shared, then 2 and 3.
        ([1, 2, 3, 0], [1, 0, 1, 0], (5 * against(1, 2, 0) + 5 * against(3, 2, 0)) / 11),
        ([1, 2, 3, 0], [2, 1, 1, 0], (7 * against(1, 2, 3, 0) + 2 * against(2, 0) + 2 * against(3, 0)) / 11),
        ([4, 2], [1, 1], 0),
        ([4], [1], 0),
        ([], [], 0),
        ([-1e4, 1e4], [1, 0], 2e4),
    ],
)
def test_p_listmle(scores: Row, labels: Row, expected: float) -> None:
    assert value(p_listmle, scores, labels) == pytest.approx(expected)


def test_the_weights_of_a_long_list_do_not_overflow() -> None:
    scores = torch.zeros(1, 3000)
    labels = torch.arange(3000.0)[None]
    found = p_listmle(scores, labels, mask=torch.ones_like(scores, dtype=torch.bool)).item()
    expected = sum(2.0**-r * log(3001 - r) for r in range(1, 60))
    assert found == pytest.approx(expected, rel=1e-5)
