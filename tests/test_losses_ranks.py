"""Ranks, hard and soft."""

from __future__ import annotations

from math import exp, log2

import pytest
import torch

from secondstage.train.losses.ranks import hard_ranks, mean_ranks, normalised_gains, soft_ranks

from .lossrows import Row, folded


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([3, 1, 2], [0, 0, 0], [1, 3, 2]),
        # A tie is ranked against the labels.
        ([1, 1, 1], [2, 0, 1], [3, 1, 2]),
        ([1, 2, 1], [1, 0, 0], [3, 1, 2]),
        ([1, 1], [1, 1], [1, 2]),
        ([5], [1], [1]),
    ],
)
def test_hard_ranks(scores: Row, labels: Row, expected: list[int]) -> None:
    given, mask = folded([scores, [0] * 4])
    found = hard_ranks(given, folded([labels, [0] * 4])[0], mask)
    assert found[0, : len(expected)].tolist() == expected
    assert sorted(found[1].tolist()) == [1, 2, 3, 4]


def test_equal_targets_share_their_ranks() -> None:
    targets, mask = folded([[0.5, 2, 0.5, 0.5, -1], [1, 1], [7]])
    found = mean_ranks(targets, mask)
    assert found[0].tolist() == [3, 1, 3, 3, 5]
    assert found[1, :2].tolist() == [1.5, 1.5]
    assert found[2, 0] == 1


def test_soft_ranks_count_those_ahead() -> None:
    scores, mask = folded([[2, 0], [1, 2, 3], [1]])
    scores = scores.masked_fill(~mask, 0)
    found = soft_ranks(scores, mask, 0.5)
    assert found[0, :2].tolist() == pytest.approx([1 + 1 / (1 + exp(4)), 1 + 1 / (1 + exp(-4))])
    assert soft_ranks(scores, mask, 0.01)[1].tolist() == pytest.approx([3, 2, 1])
    assert found[2, 0] == 1
    assert found[1].sum().item() == pytest.approx(6)


def test_gains_are_shares_of_the_best_dcg() -> None:
    labels = torch.tensor([[0, 2, 1], [0, 0, 0]], dtype=torch.float32)
    best = 3 + 1 / log2(3)
    assert normalised_gains(labels)[0].tolist() == pytest.approx([0, 3 / best, 1 / best])
    assert normalised_gains(labels, 1)[0].tolist() == pytest.approx([0, 1, 1 / 3])
    assert normalised_gains(labels)[1].tolist() == [0, 0, 0]
