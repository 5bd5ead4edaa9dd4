"""Scaled scores and histograms: closed forms, and no dependence on order."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.mine.distribution import BINS, KEPT, SHOWN, Histogram, bin_of, scaled
from secondstage.run import strictly_decreasing

VALUES = st.floats(-1e6, 1e6, width=32)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1.0, 3.0, 2.0], [0.0, 1.0, 0.5]),
        ([-4.0, None, 0.0], [0.0, None, 1.0]),
        ([math.inf, 1.0, 2.0], [None, 0.0, 1.0]),
        ([7.0, 7.0], [None, None]),
        ([*strictly_decreasing([7.0] * 3).tolist(), None], [None] * 4),
        ([7.0], [None]),
        ([None, None], [None, None]),
        ([], []),
    ],
)
def test_scores_are_scaled_in_their_list(scores: list[float | None], expected: list[float | None]) -> None:
    assert scaled(scores) == expected


@given(st.lists(st.integers(-100, 100), min_size=2, unique=True), st.sampled_from([0.5, 2.0, 8.0]), st.integers(-9, 9))
def test_a_scale_and_a_shift_change_nothing(values: list[int], factor: float, shift: int) -> None:
    plain = scaled([float(value) for value in values])
    assert scaled([factor * value + shift for value in values]) == pytest.approx(plain)


def test_the_highest_share_is_in_the_last_bin() -> None:
    assert [bin_of(i / BINS) for i in range(BINS)] == list(range(BINS))
    assert bin_of(1.0) == BINS - 1


def filled(values: list[float], group: str = "all") -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(group, value)
    return histogram


@given(st.lists(VALUES, min_size=1, max_size=50), st.randoms(use_true_random=False))
def test_the_order_of_the_values_does_not_matter(values: list[float], rng: random.Random) -> None:
    shuffled = rng.sample(values, len(values))
    assert filled(values).shown() == filled(shuffled).shown()


@given(st.lists(VALUES, min_size=1, max_size=50))
def test_every_value_is_counted_in_its_bin(values: list[float]) -> None:
    shown = filled(values).shown()
    edges, counts = shown["edges"], shown["groups"]["all"]
    assert len(edges) == len(counts) + 1 <= SHOWN + 1
    inner = list(pairwise(edges))
    for i, (low, high) in enumerate(inner):
        below = -math.inf if i == 0 else low
        above = math.inf if i == len(inner) - 1 else high
        assert counts[i] == sum(below <= value < above for value in values)


def test_few_bins_are_held_whatever_the_range() -> None:
    histogram = filled([i / 64 for i in range(-4000, 4000)])
    assert len(histogram._groups["all"]) <= KEPT
    assert sum(histogram._groups["all"].values()) == 8000


def test_an_outlier_does_not_flatten_the_rest() -> None:
    shown = filled([i / 1000 for i in range(1000)] + [1e6]).shown()
    assert shown["edges"][0] == 0
    assert shown["edges"][-1] <= 1.1
    assert sum(shown["groups"]["all"]) == 1001


def test_groups_share_their_bins_and_nothing_is_an_empty_histogram() -> None:
    histogram = filled([0.0, 1.0], "a")
    histogram.add("b", 9.0)
    shown = histogram.shown()
    assert {name: sum(counts) for name, counts in shown["groups"].items()} == {"a": 2, "b": 1}
    assert {len(counts) for counts in shown["groups"].values()} == {len(shown["edges"]) - 1}
    assert Histogram().shown() == {"edges": [], "groups": {}}
