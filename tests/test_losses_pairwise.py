"""Pairwise losses: closed forms."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pytest

from secondstage.train.losses.pairwise import hinge, ranknet

from .lossrows import Row, value


def cost(margin: float) -> float:
    return log(1 + exp(-margin))


@pytest.mark.parametrize(
    ("scores", "labels", "settings", "expected"),
    [
        ([0, 0], [1, 0], {}, 1),
        ([2, 0], [1, 0], {}, 0),
        ([0, 2], [1, 0], {}, 3),
        ([0, 2], [1, 0], {"margin": 0.5}, 2.5),
        ([0.5, 0, 0.25], [1, 0, 0], {}, (0.5 + 0.75) / 2),
        # Grades: three pairs.
        ([0.5, 0, 0.25], [2, 0, 1], {}, (0.5 + 0.75 + 0.75) / 3),
        # Only pairs of different labels.
        ([0, 0, 5], [1, 0, 1], {}, (1 + 0) / 2),
        ([3, 1], [1, 1], {}, 0),
        ([3], [1], {}, 0),
        ([], [], {}, 0),
        ([-1e4, 1e4], [1, 0], {}, 2e4 + 1),
    ],
)
def test_hinge(scores: Row, labels: Row, settings: dict[str, Any], expected: float) -> None:
    assert value(hinge, scores, labels, **settings) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "labels", "settings", "expected"),
    [
        ([0, 0], [1, 0], {}, log(2)),
        ([2, 1], [1, 0], {}, cost(1)),
        ([1, 2], [1, 0], {"sigma": 3.0}, cost(-3)),
        ([2, 1, 0], [1, 0, 0], {}, (cost(1) + cost(2)) / 2),
        ([2, 1, 4], [2, 1, 0], {}, (cost(1) + cost(-2) + cost(-3)) / 3),
        # The gains are 3, 1 and 0, their differences 2, 3 and 1.
        ([2, 1, 4], [2, 1, 0], {"weighted": True}, (2 * cost(1) + 3 * cost(-2) + cost(-3)) / 6),
        # Of binary labels all pairs weigh the same.
        ([2, 1, 0], [1, 0, 0], {"weighted": True}, (cost(1) + cost(2)) / 2),
        ([3, 1], [1, 1], {"weighted": True}, 0),
        ([3], [1], {}, 0),
        ([], [], {"weighted": True}, 0),
        ([1e4, -1e4], [1, 0], {}, 0),
        ([-1e4, 1e4], [1, 0], {}, 2e4),
    ],
)
def test_ranknet(scores: Row, labels: Row, settings: dict[str, Any], expected: float) -> None:
    assert value(ranknet, scores, labels, **settings) == pytest.approx(expected)
