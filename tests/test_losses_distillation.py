"""Losses on a teacher's scores: closed forms."""

from __future__ import annotations

from math import exp, log, log2
from typing import Any

import pytest
import torch

from secondstage.train.losses.distillation import adr_mse, has_margins, kl, margin_mse, mse, ranknet_teacher

from .lossrows import NAN, Row, value


def cost(margin: float) -> float:
    return log(1 + exp(-margin))


@pytest.mark.parametrize(
    ("scores", "teacher", "expected"),
    [([1, 2], [1, 2], 0), ([1, 2], [0, 4], (1 + 4) / 2), ([3], [1], 4), ([], [], 0), ([1e4], [-1e4], 4e8)],
)
def test_mse(scores: Row, teacher: Row, expected: float) -> None:
    assert value(mse, scores, teacher) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "teacher", "expected"),
    [
        ([1, 2], [11, 12], 0),
        ([2, 1], [1, 2], (1 + 1) ** 2),
        ([3, 1, 0], [5, 4, 0], ((2 - 1) ** 2 + (3 - 5) ** 2 + (1 - 4) ** 2) / 3),
        # What the teacher does not tell apart should be scored the same.
        ([3, 1], [5, 5], 4),
        ([3], [5], 0),
        ([], [], 0),
        ([1e4, -1e4], [0, 0], 4e8),
    ],
)
def test_margin_mse_over_all_pairs(scores: Row, teacher: Row, expected: float) -> None:
    assert value(margin_mse, scores, teacher) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "expected", "counts"),
    [
        ([1, 0, 0], ((2 - 1) ** 2 + (3 - 5) ** 2) / 2, True),
        ([1, 2, 0], ((3 - 5) ** 2 + (1 - 4) ** 2) / 2, True),
        ([0, NAN, 3], (3 - 5) ** 2, True),
        ([1, NAN, NAN], 0, False),
        ([1, 1, 1], 0, False),
        ([0, 0, 0], 0, False),
    ],
)
def test_margin_mse_over_pairs_of_a_positive_and_a_negative(labels: Row, expected: float, counts: bool) -> None:
    scores, teacher, wanted = (torch.tensor([row]) for row in ([3.0, 1, 0], [5.0, 4, 0], labels))
    mask = torch.ones_like(scores, dtype=torch.bool)
    found = margin_mse(scores, teacher, mask=mask, labels=wanted, pairs="positive_negative")
    assert found.item() == pytest.approx(expected)
    assert has_margins(teacher, mask=mask, labels=wanted, pairs="positive_negative").tolist() == [counts]


def test_pairs_of_a_positive_and_a_negative_want_labels() -> None:
    with pytest.raises(ValueError, match="wants labels"):
        value(margin_mse, [1], [1], pairs="positive_negative")


@pytest.mark.parametrize(
    ("scores", "teacher", "settings", "expected"),
    [
        ([1, 2], [11, 12], {}, 0),
        ([0, 0], [log(3), 0], {}, 0.75 * log(0.75 / 0.5) + 0.25 * log(0.25 / 0.5)),
        ([0, 0], [2 * log(3), 0], {"temperature": 2.0}, 4 * (0.75 * log(0.75 / 0.5) + 0.25 * log(0.25 / 0.5))),
        ([0, 1], [0, 1], {"temperature": 2.0}, 0),
        ([5], [1], {}, 0),
        ([], [], {}, 0),
        ([-1e4, 1e4], [1e4, -1e4], {}, 2e4),
    ],
)
def test_kl(scores: Row, teacher: Row, settings: dict[str, Any], expected: float) -> None:
    assert value(kl, scores, teacher, **settings) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "teacher", "settings", "expected"),
    [
        ([0, 0], [0.2, 0.1], {}, log(2)),
        ([2, 1, 4], [0.9, 0.3, 0.1], {}, (cost(1) + cost(-2) + cost(-3)) / 3),
        ([2, 1, 4], [0.9, 0.1, 0.1], {}, (cost(1) + cost(-2)) / 2),
        ([2, 1, 4], [0.9, 0.1, 0.1], {"sigma": 2.0}, (cost(2) + cost(-4)) / 2),
        ([2, 1, 4], [7, 5, 4], {"weighted": True}, (2 * cost(1) + 3 * cost(-2) + cost(-3)) / 6),
        ([2, 1], [3, 3], {"weighted": True}, 0),
        ([2], [3], {}, 0),
        ([], [], {}, 0),
        ([-1e4, 1e4], [2, 1], {}, 2e4),
    ],
)
def test_ranknet_teacher(scores: Row, teacher: Row, settings: dict[str, Any], expected: float) -> None:
    assert value(ranknet_teacher, scores, teacher, **settings) == pytest.approx(expected)


S1, S2 = 1 / (1 + exp(-1)), 1 / (1 + exp(-2))


@pytest.mark.parametrize(
    ("scores", "teacher", "settings", "expected"),
    [
        # The second is soft 1 + σ(1) and 2 by the teacher; or 2 − σ(1) and 1.
        ([1, 0], [5, 4], {}, ((1 - S1) ** 2 + (1 - S1) ** 2 / log2(3)) / 2),
        ([0, 1], [5, 4], {}, (S1**2 + S1**2 / log2(3)) / 2),
        ([0, 1], [5, 4], {"temperature": 0.5}, (S2**2 + S2**2 / log2(3)) / 2),
        # Two of three share the ranks 2 and 3; scored the same, they cost nothing.
        ([100, 0, 0], [5, 4, 4], {}, 0),
        ([1e4, -1e4], [5, 4], {}, 0),
        ([-1e4, 1e4], [5, 4], {}, (1 + 1 / log2(3)) / 2),
        ([2, 1], [4, 4], {}, 0),
        ([2], [4], {}, 0),
        ([], [], {}, 0),
    ],
)
def test_adr_mse(scores: Row, teacher: Row, settings: dict[str, Any], expected: float) -> None:
    assert value(adr_mse, scores, teacher, **settings) == pytest.approx(expected, abs=1e-12)


def test_adr_mse_tells_opposite_targets_apart() -> None:
    """rank_llm's gives the same for both: it takes the order of sorting for the ranks, and compares it unsorted."""
    scores, teacher = [3.0, 1, 0, 2], [0.9, 0.2, 0.1, 0.5]
    right, wrong = value(adr_mse, scores, teacher), value(adr_mse, scores, [-t for t in teacher])
    assert right < wrong / 5


def test_the_ranks_of_the_teacher_are_not_the_order_of_sorting() -> None:
    """argsort alone is that only where it is its own inverse, which this order is not."""
    teacher = [0.2, 0.9, 0.5]
    assert value(adr_mse, [100 * t for t in (0.2, 0.9, 0.5)], teacher, temperature=0.1) == pytest.approx(0, abs=1e-9)
