"""LambdaLoss and ApproxNDCG: closed forms, and what they promise about nDCG."""

from __future__ import annotations

from math import exp, log2
from typing import Any

import numpy as np
import pytest
import torch

from secondstage.train.losses.lambdas import approx_ndcg, lambdaloss

from .lossrows import Row, value

SCHEMES = ("ndcg1", "ndcg2", "lambdarank", "ndcg2++")


def cost(margin: float) -> float:
    return log2(1 + exp(-margin))


def discounted(rank: int) -> float:
    return 1 / log2(1 + rank)


BEST = 3 * discounted(1) + discounted(2)
# Scores 1, 3, 2 and labels 2, 0, 1: the ranks are 3, 1, 2; the margins of the pairs (2, 1), (2, 0), (1, 0):
MARGINS = (1 - 2, 1 - 3, 2 - 3)
GAPS = (2 / BEST, 3 / BEST, 1 / BEST)
DISTANCES = (1, 2, 1)
RANKS = ((3, 2), (3, 1), (2, 1))
NDCG2 = [g * (discounted(d) - discounted(d + 1)) for g, d in zip(GAPS, DISTANCES, strict=True)]
SWAP = [g * abs(discounted(a) - discounted(b)) for g, (a, b) in zip(GAPS, RANKS, strict=True)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"scheme": "ndcg2"}, sum(w * cost(m) for w, m in zip(NDCG2, MARGINS, strict=True))),
        ({"scheme": "lambdarank"}, sum(w * cost(m) for w, m in zip(SWAP, MARGINS, strict=True))),
        ({}, sum((s + 10 * w) * cost(m) for s, w, m in zip(SWAP, NDCG2, MARGINS, strict=True))),
        ({"mu": 2.0}, sum((s + 2 * w) * cost(m) for s, w, m in zip(SWAP, NDCG2, MARGINS, strict=True))),
        ({"scheme": "lambdarank", "sigma": 3.0}, sum(w * cost(3 * m) for w, m in zip(SWAP, MARGINS, strict=True))),
        # Down to rank 1 the best DCG is 3, and only pairs with the negative, which is first, count.
        ({"scheme": "lambdarank", "k": 1}, sum(SWAP[i] * BEST / 3 * cost(MARGINS[i]) for i in (1, 2))),
        (
            {"scheme": "ndcg1"},
            3 / BEST * discounted(3) * (cost(-1) + cost(-2)) + 1 / BEST * discounted(2) * (cost(1) + cost(-1)),
        ),
    ],
)
def test_lambdaloss(settings: dict[str, Any], expected: float) -> None:
    assert value(lambdaloss, [1, 3, 2], [2, 0, 1], **settings) == pytest.approx(expected)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("scores", "labels"), [([3, 1], [1, 1]), ([3, 1], [0, 0]), ([3], [1]), ([], []), ([1e4, -1e4], [1, 0])]
)
def test_nothing_to_gain_is_zero(scheme: str, scores: Row, labels: Row) -> None:
    assert value(lambdaloss, scores, labels, scheme=scheme) == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_pair_that_is_wrong_by_far_costs_its_margin(scheme: str) -> None:
    weights = {"ndcg1": discounted(2), "ndcg2": 1 - discounted(2), "lambdarank": 1 - discounted(2)}
    weights["ndcg2++"] = 11 * (1 - discounted(2))
    expected = weights[scheme] * 2e4 / np.log(2)
    assert value(lambdaloss, [-1e4, 1e4], [1, 0], scheme=scheme) == pytest.approx(expected)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_tie_is_ranked_as_if_it_were_wrong(scheme: str) -> None:
    """Also where the order of the candidates would rank it well."""
    tied = value(lambdaloss, [1, 1, 0], [1, 0, 0], scheme=scheme)
    assert tied == pytest.approx(value(lambdaloss, [1, 1 + 1e-9, 0], [1, 0, 0], scheme=scheme), rel=1e-6)


def test_ndcg2_bounds_what_is_lost_in_ndcg() -> None:
    """Theorem of the paper: 1 − nDCG is at most the loss, as log2(1 + exp(−d)) is at least 1 where d ≤ 0."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        labels = rng.integers(0, 4, 6).tolist()
        labels[0] = 3
        scores = rng.permutation(6).astype(float)
        order = np.argsort(-scores)
        found = sum((2 ** labels[i] - 1) * discounted(r + 1) for r, i in enumerate(order))
        best = sum((2**label - 1) * discounted(r + 1) for r, label in enumerate(sorted(labels, reverse=True)))
        for scheme in ("ndcg1", "ndcg2", "ndcg2++"):
            assert 1 - found / best <= value(lambdaloss, scores.tolist(), labels, scheme=scheme) + 1e-9


@pytest.mark.parametrize(
    ("scores", "labels", "settings", "expected"),
    [
        ([1, 0], [1, 0], {"temperature": 1.0}, 1 - 1 / log2(2 + 1 / (1 + exp(1)))),
        ([0, 1], [1, 0], {"temperature": 1.0}, 1 - 1 / log2(2 + 1 / (1 + exp(-1)))),
        ([0, 0.1], [1, 0], {}, 1 - 1 / log2(2 + 1 / (1 + exp(-1)))),
        ([0, 0], [1, 0], {}, 1 - 1 / log2(2.5)),
        ([1e4, -1e4], [1, 0], {}, 0),
        ([-1e4, 1e4], [1, 0], {}, 1 - 1 / log2(3)),
        ([3, 1], [1, 1], {}, 0),
        ([3, 1], [0, 0], {}, 0),
        ([3], [1], {}, 0),
        ([], [], {}, 0),
        # Far apart, it is nDCG: ranks 3, 1, 2.
        ([100, 300, 200], [2, 0, 1], {}, 1 - (3 * discounted(3) + discounted(2)) / BEST),
    ],
)
def test_approx_ndcg(scores: Row, labels: Row, settings: dict[str, Any], expected: float) -> None:
    assert value(approx_ndcg, scores, labels, **settings) == pytest.approx(expected, abs=1e-12)


def test_no_gradient_passes_through_ranks() -> None:
    leaf = torch.tensor([[0.2, 0.1]], requires_grad=True)
    labels, mask = torch.tensor([[1.0, 0.0]]), torch.ones(1, 2, dtype=torch.bool)
    torch.autograd.backward(lambdaloss(leaf, labels, mask=mask, scheme="lambdarank").sum())
    weight = (1 - discounted(2)) / np.log(2)
    assert leaf.grad is not None
    assert leaf.grad[0].tolist() == pytest.approx([-weight / (1 + exp(0.1)), weight / (1 + exp(0.1))])
