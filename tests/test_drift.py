"""Drift: scipy is the oracle; how often an alarm is false is counted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from secondstage.serve.release import Release
from secondstage.serve.server.drift import (
    RAISED,
    TESTS_PER_WINDOW,
    DriftWatch,
    compare,
    ks_distance,
    ks_p_value,
    stability_index,
)

DEPTH = 4


def oracle(one: Any, two: Any, **settings: Any) -> Any:
    return stats.ks_2samp(one, two, **settings)


def release(rng: np.random.Generator, queries: int = 300) -> Release:
    scores = rng.normal(size=(queries, DEPTH))
    top, every = np.sort(scores.max(axis=1)), np.sort(scores.ravel())
    return Release(DEPTH, queries, tuple(top.tolist()), tuple(np.quantile(every, np.linspace(0, 1, 1000)).tolist()))


@pytest.mark.parametrize(("left", "right", "shift"), [(300, 300, 0.0), (40, 300, 0.3), (300, 100, 1.0), (1, 5, 0.0)])
def test_the_distance_is_that_of_scipy(left: int, right: int, shift: float) -> None:
    rng = np.random.default_rng(left + right)
    one, two = np.sort(rng.normal(size=left)), np.sort(rng.normal(shift, size=right))
    assert ks_distance(one, two) == pytest.approx(oracle(one, two).statistic)


def test_ties_count_as_scipy_counts_them() -> None:
    one, two = [0.0, 1.0, 1.0, 2.0], [1.0, 1.0, 1.0, 3.0]
    assert ks_distance(one, two) == pytest.approx(oracle(one, two).statistic)


@pytest.mark.parametrize("distance", [0.05, 0.1, 0.13, 0.17, 0.2])
def test_the_p_value_is_nearly_the_exact_one(distance: float) -> None:
    """Two samples of 300 with this very distance: one is the other with so many values moved to its end."""
    moved = round(300 * distance)
    one = np.arange(300.0)
    two = np.concatenate([one[moved:], 1000 + np.arange(moved)])
    exact = oracle(one, two, method="exact")
    assert ks_distance(one, two) == pytest.approx(exact.statistic) == pytest.approx(moved / 300)
    assert ks_p_value(moved / 300, 300, 300) == pytest.approx(exact.pvalue, rel=0.25)


def test_the_stability_index_in_closed_form() -> None:
    """Of four bins one has lost all its values to another; each bin has half a value more on either side."""
    reference, values = np.arange(40.0), np.concatenate([np.arange(10.0), np.arange(10.0), np.arange(20.0, 40.0)])
    p, q = np.array([20.5, 0.5, 10.5, 10.5]) / 42, np.array([10.5] * 4) / 42
    expected = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert stability_index(reference, values, 4) == pytest.approx(expected)
    assert stability_index(reference, reference, 4) == pytest.approx(0)
    assert stability_index([1.0] * 3, [1.0] * 3) == pytest.approx(0)  # nothing but ties


def test_the_stability_index_of_the_same_distribution_is_small_on_average() -> None:
    rng = np.random.default_rng(1)
    found = [stability_index(np.sort(rng.normal(size=300)), rng.normal(size=300)) for _ in range(200)]
    assert np.mean(found) == pytest.approx(9 * 2 / 300, rel=0.15)


def test_no_score_is_compared_before_the_window_is_full_then_a_quarter_at_a_time() -> None:
    rng = np.random.default_rng(2)
    watch = DriftWatch(release(rng), 100)
    told = [watch.add(row) is not None for row in rng.normal(size=(200, DEPTH)).tolist()]
    assert [i for i, each in enumerate(told, 1) if each] == [100, 125, 150, 175, 200]


def test_searches_of_another_depth_are_left_out() -> None:
    rng = np.random.default_rng(3)
    watch = DriftWatch(release(rng), 100)
    for row in rng.normal(9, size=(500, DEPTH - 1)).tolist():
        assert watch.add(row) is None
    assert watch.add([]) is None
    assert watch.drift is None


def test_an_alarm_is_raised_when_scores_move_and_cleared_when_they_are_back() -> None:
    rng = np.random.default_rng(4)
    watch = DriftWatch(release(rng), 300)
    states = []
    for mean in (0.0, -1.0, 0.0):
        for row in rng.normal(mean, size=(600, DEPTH)).tolist():
            watch.add(row)
        states.append(watch.alarm)
        assert watch.drift is not None
        assert (watch.drift.psi > 0.25) == (mean != 0)
    assert states == [False, True, False]


def test_what_is_compared_are_the_top_scores() -> None:
    rng = np.random.default_rng(5)
    known, window = release(rng), rng.normal(size=(300, DEPTH))
    found = compare(known, list(window))
    exact = oracle(known.top, window.max(axis=1))
    assert found.distance == pytest.approx(exact.statistic)
    assert found.p_value == pytest.approx(exact.pvalue, rel=0.1)


@pytest.mark.slow
def test_how_often_an_alarm_is_false() -> None:
    """Where nothing drifts, about 1 of 100 streams of 10,000 searches raises one; each has dev queries of its own.

    The test on the top scores does not see their distribution, only ranks: uniform ones stand for all.
    """
    rng = np.random.default_rng(6)
    streams, window, false = 300, 300, 0
    for _ in range(streams):
        known, scores = np.sort(rng.random(300)), rng.random(10_000)
        ends = range(window, 10_001, window // TESTS_PER_WINDOW)
        distances = [ks_distance(known, np.sort(scores[end - window : end])) for end in ends]
        false += ks_p_value(max(distances), 300, window) < RAISED
    assert false / streams <= 0.02
