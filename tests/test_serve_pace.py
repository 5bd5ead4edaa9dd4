"""The budget of time: how deep it lets rerankers read, and how that is learnt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.serve.pace import FLOOR, Cost, Load, Pace, affordable, fit, measure


def test_one_reranker_reads_as_deep_as_the_budget_lets_it() -> None:
    cost = Cost(overhead=10.0, per_pair=2.0)

    def depth(budget: float) -> int:
        return affordable([50], budget, lambda _, pairs: cost.of(pairs))[0]

    assert [depth(ms) for ms in (1000, 110, 109.9, 30, 20, 19.9, 0, -5)] == [50, 50, 49, 10, 5, 0, 0, 0]


def test_a_reranker_that_usually_reads_less_than_the_floor_goes_on_to() -> None:
    assert affordable([3], 3.0, lambda _, pairs: pairs) == (3,)
    assert affordable([3], 2.9, lambda _, pairs: pairs) == (0,)


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=3),
    st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 20)), min_size=3, max_size=3),
    st.floats(0, 5000),
)
def test_a_cascade_keeps_its_budget_and_its_order(
    depths: list[int], costs: list[tuple[float, float]], budget: float
) -> None:
    depths = sorted(depths, reverse=True)

    def expected(stage: int, pairs: int) -> float:
        return Cost(*costs[stage]).of(pairs)

    found = affordable(depths, budget, expected)
    assert list(found) == sorted(found, reverse=True)
    if any(found):
        assert sum(expected(stage, depth) for stage, depth in enumerate(found)) <= budget
        assert all(min(FLOOR, usual) <= depth <= usual for depth, usual in zip(found, depths, strict=True))
    else:
        least = [min(FLOOR, depth) for depth in depths]
        assert sum(expected(stage, depth) for stage, depth in enumerate(least)) > budget
    assert all(more >= less for more, less in zip(affordable(depths, budget + 100, expected), found, strict=True))


def test_the_pace_follows_what_it_sees() -> None:
    pace = Pace([Cost(10.0, 1.0), Cost(0.0, 5.0)])
    assert (pace.expected(0, 40), pace.expected(1, 4)) == (50.0, 20.0)
    pace.observe(0, 40, 50.0)  # as it was measured: nothing changes
    assert pace.expected(0, 40) == 50.0
    for _ in range(200):
        pace.observe(0, 10, 60.0)  # three times as long
    assert pace.expected(0, 40) == pytest.approx(150.0)
    assert pace.expected(1, 4) == 20.0
    # What swings is reckoned with, more than its average.
    for each in range(200):
        pace.observe(1, 4, 10.0 if each % 2 else 30.0)
    assert pace.expected(1, 4) > 30.0


def test_an_average_takes_an_eighth_of_what_is_new() -> None:
    assert Load().after(2.0) == Load(1.125, 0.125)
    assert Load(1.0, 0.5).expected == 2.5
    assert Load(9.0, 1.0).unseen() == Load(8.0, 0.875)


def test_what_was_too_slow_once_is_tried_again() -> None:
    pace = Pace([Cost(10.0, 2.0)])
    for _ in range(50):
        pace.observe(0, 20, 500.0)
    skipped = 0
    while not affordable([20], 60.0, pace.expected)[0]:
        pace.skip(0)
        skipped += 1
    assert 1 < skipped < 50


@pytest.mark.parametrize(
    ("few", "many", "cost"),
    [
        ((8, 26.0), (32, 74.0), Cost(10.0, 2.0)),
        ((8, 16.0), (32, 64.0), Cost(0.0, 2.0)),
        ((8, 50.0), (32, 40.0), Cost(40.0, 0.0)),  # noise: never negative
        ((1, 5.0), (1, 5.0), Cost(0.0, 5.0)),
    ],
)
def test_a_line_through_two_points(few: tuple[int, float], many: tuple[int, float], cost: Cost) -> None:
    assert fit(few, many) == pytest.approx(cost)


def test_a_reranker_is_timed_by_the_clock() -> None:
    now = 0.0

    def score(pairs: list[tuple[str, str]]) -> None:
        nonlocal now
        now += 0.010 + 0.002 * len(pairs)

    assert measure(score, [("q", "d")] * 32, lambda: now) == pytest.approx(Cost(10.0, 2.0))
