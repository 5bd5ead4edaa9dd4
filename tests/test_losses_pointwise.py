"""Pointwise losses: closed forms."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pytest

from secondstage.train.losses.pointwise import bce, gbce

from .lossrows import Row, value


def sure(margin: float) -> float:
    return log(1 + exp(-margin))


CASES: list[tuple[Row, Row, dict[str, Any], float]] = [
    ([0], [1], {}, log(2)),
    ([0], [0], {}, log(2)),
    ([2], [1], {}, sure(2)),
    ([2], [0], {}, sure(-2)),
    ([2, -1, 3], [1, 0, 0], {}, (sure(2) + sure(1) + sure(-3)) / 3),
    # A grade is a positive, and no more so the higher it is.
    ([2, -1], [3, 1], {}, (sure(2) + sure(-1)) / 2),
    # The mean is over the candidates, whatever a positive weighs.
    ([2, -1, 3], [1, 0, 0], {"pos_weight": 5.0}, (5 * sure(2) + sure(1) + sure(-3)) / 3),
    ([2, -1, 3], [1, 0, 0], {"pos_weight": "auto"}, (2 * sure(2) + sure(1) + sure(-3)) / 3),
    ([2, -1, 3, 0], [1, 2, 1, 0], {"pos_weight": "auto"}, ((sure(2) + sure(-1) + sure(3)) / 3 + log(2)) / 4),
    # Nothing to balance.
    ([2, -1], [1, 1], {"pos_weight": "auto"}, (sure(2) + sure(-1)) / 2),
    ([2, -1], [0, 0], {"pos_weight": "auto"}, (sure(-2) + sure(1)) / 2),
    # Huge scores.
    ([1e4, -1e4], [1, 0], {}, 0),
    ([-1e4, 1e4], [1, 0], {}, 1e4),
]


@pytest.mark.parametrize(("scores", "labels", "settings", "expected"), CASES)
def test_bce(scores: Row, labels: Row, settings: dict[str, Any], expected: float) -> None:
    assert value(bce, scores, labels, **settings) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("settings", "beta"),
    [
        ({}, 1 - 0.75 * 0.984),
        ({"t": 0.0}, 1),
        ({"t": 1.0, "sampling": 0.25}, 0.25),
        ({"t": 0.5, "sampling": 0.2}, 0.6),
        ({"t": 0.9, "sampling": 1.0}, 1),
    ],
)
def test_gbce_raises_the_probability_of_a_positive_to_a_power(settings: dict[str, float], beta: float) -> None:
    expected = -(beta * log(1 / (1 + exp(-2))) + log(1 - 1 / (1 + exp(1))) + log(1 - 1 / (1 + exp(-3)))) / 3
    assert value(gbce, [2, -1, 3], [2, 0, 0], **settings) == pytest.approx(expected)


def test_the_power_is_that_of_the_paper() -> None:
    t, alpha = 0.75, 16 / 1000
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    assert value(gbce, [0], [1], t=t, sampling=alpha) == pytest.approx(beta * log(2))
    assert value(gbce, [0], [1]) == pytest.approx(beta * log(2))


@pytest.mark.parametrize(("scores", "labels", "expected"), [([1e4, -1e4], [1, 0], 0), ([0, 1e4], [1, 0], 1e4 / 2)])
def test_gbce_at_the_edge(scores: Row, labels: Row, expected: float) -> None:
    assert value(gbce, scores, labels) == pytest.approx(expected, abs=0.2)
    assert value(gbce, [], []) == 0
