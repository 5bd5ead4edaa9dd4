"""The paired comparison against enumeration, against its nominal levels, and under what must not change it."""

from __future__ import annotations

import random
from itertools import product
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage import significance
from secondstage.measures import Values
from secondstage.significance import Comparison, compare

SIMULATIONS = 300


def values(numbers: object) -> Values:
    return {f"q{i}": float(number) for i, number in enumerate(np.asarray(numbers))}


def against_zero(differences: object, resamples: int = 2000, seed: int = 13, confidence: float = 0.95) -> Comparison:
    system = values(differences)
    return compare(system, dict.fromkeys(system, 0.0), confidence=confidence, resamples=resamples, seed=seed)


def exact_p(differences: list[float]) -> float:
    """Of all assignments of signs, the share whose mean is at least as far from zero."""
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return sum(total >= observed - 1e-9 for total in sums) / len(sums)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-10, 10).map(lambda tenths: tenths / 10), min_size=1, max_size=8), st.integers(0, 3))
def test_p_is_near_that_of_all_assignments_of_signs(differences: list[float], seed: int) -> None:
    resamples, exact = 4000, exact_p(differences)
    found = against_zero(differences, resamples, seed).p
    # Five standard errors, and what counting the observed assignment adds.
    assert abs(found - exact) <= 5 * sqrt(exact * (1 - exact) / resamples) + 1 / resamples


@pytest.mark.parametrize(
    ("differences", "exact"),
    [
        ([0.1] * 4, 2 / 2**4),
        ([0.1, 0.2, 0.3], 2 / 2**3),
        ([0.1, 0.2, -0.3], 1.0),
        ([0.5], 1.0),
        ([0.3, 0.1, -0.1], 6 / 2**3),
    ],
)
def test_small_cases_whose_p_is_known(differences: list[float], exact: float) -> None:
    assert exact_p(differences) == pytest.approx(exact)
    assert against_zero(differences, 20_000).p == pytest.approx(exact, abs=5 * sqrt(0.25 / 20_000))


def test_p_is_never_zero() -> None:
    assert against_zero([1.0] * 200, resamples=999).p == 1 / 1000


def test_without_a_difference_one_test_in_twenty_is_significant() -> None:
    rng = np.random.default_rng(7)
    significant = 0
    for i in range(SIMULATIONS):
        # Two systems of the same quality, whose values go together, as those of real queries do.
        easy = rng.random(25)
        one, other = (np.clip(easy + 0.3 * rng.standard_normal(25), 0, 1) for _ in range(2))
        significant += compare(values(one), values(other), resamples=199, seed=i).p <= 0.05
    # Binomial(300, 1/20): 15 are expected, standard deviation 3.8; beyond 5 … 28 lies a chance of 1 in 500.
    assert 5 <= significant <= 28


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    covered = {0.95: 0, 0.8: 0}
    for i in range(SIMULATIONS):
        differences = 0.1 + 0.3 * rng.standard_normal(60)
        for confidence in covered:
            found = against_zero(differences, resamples=400, seed=i, confidence=confidence)
            covered[confidence] += found.low <= 0.1 <= found.high
    # Binomial(300, 0.95) has mean 285 and standard deviation 3.8; Binomial(300, 0.8) has 240 and 6.9.
    assert 270 <= covered[0.95] <= 297
    assert 216 <= covered[0.8] <= 262


def test_the_interval_is_as_wide_as_theory_says() -> None:
    differences = np.random.default_rng(3).standard_normal(400)
    found = against_zero(differences, resamples=4000)
    error = differences.std() / sqrt(400)
    assert found.low == pytest.approx(differences.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(differences.mean() + 1.96 * error, abs=0.15 * error)


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(5)
    found = [against_zero(0.2 + 0.2 * rng.standard_normal(40), resamples=199, seed=i) for i in range(30)]
    assert all(comparison.p <= 0.05 and comparison.low > 0 for comparison in found)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
def test_swapping_the_systems_mirrors_everything(pairs: list[tuple[float, float]]) -> None:
    one, other = values([a for a, _ in pairs]), values([b for _, b in pairs])
    there, back = compare(one, other, resamples=200), compare(other, one, resamples=200)
    assert back.delta == pytest.approx(-there.delta, abs=1e-12)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=1e-12)
    assert back.p == there.p
    assert (back.wins, back.ties, back.losses) == (there.losses, there.ties, there.wins)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 5))
def test_identical_systems_differ_in_nothing(numbers: list[float], seed: int) -> None:
    found = compare(values(numbers), values(numbers), resamples=100, seed=seed)
    assert found == Comparison(delta=0.0, low=0.0, high=0.0, p=1.0, wins=0, ties=len(numbers), losses=0)


def test_wins_ties_and_losses_are_counted_and_rounding_is_a_tie() -> None:
    found = against_zero([0.5, 0.1, 1e-9, 0.0, 1e-13, -1e-13, -0.2])
    assert (found.wins, found.ties, found.losses) == (3, 3, 1)
    assert found.delta == pytest.approx((0.5 + 0.1 + 1e-9 - 0.2) / 7, abs=1e-15)
    rounded = compare({"q": 0.1 + 0.2}, {"q": 0.3})
    assert (rounded.delta, rounded.p, rounded.ties) == (0.0, 1.0, 1)


def test_one_query_proves_nothing() -> None:
    assert against_zero([0.4]) == Comparison(0.4, 0.4, 0.4, p=1.0, wins=1, ties=0, losses=0)


def test_the_result_depends_on_the_seed_and_on_nothing_else() -> None:
    differences = np.random.default_rng(1).standard_normal(50)
    np.random.seed(0)
    first = against_zero(differences)
    np.random.seed(1)
    assert against_zero(differences) == first
    other = against_zero(differences, seed=14)
    assert (other.low, other.high) != (first.low, first.high)
    assert (other.delta, other.wins) == (first.delta, first.wins)


def test_the_order_of_the_queries_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    system, baseline = values(rng.random(30)), values(rng.random(30))
    shuffled = dict(random.Random(4).sample(list(system.items()), 30))
    assert list(shuffled) != list(system)
    assert compare(shuffled, baseline) == compare(system, baseline) == compare(system, dict(reversed(baseline.items())))


def test_a_higher_confidence_gives_a_wider_interval() -> None:
    differences = np.random.default_rng(6).standard_normal(80)
    narrow, usual, wide = (against_zero(differences, confidence=c) for c in (0.8, 0.95, 0.99))
    assert wide.low < usual.low < narrow.low < narrow.delta < narrow.high < usual.high < wide.high


def test_many_queries_are_resampled_in_blocks_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = 0.05 + 0.3 * np.random.default_rng(8).standard_normal(100)
    whole = against_zero(differences, resamples=3001)
    monkeypatch.setattr(significance, "BLOCK", 700)  # seven resamples at a time, the last block not full
    parts = against_zero(differences, resamples=3001)
    assert parts.p == pytest.approx(whole.p, abs=5 * sqrt(0.25 / 3001))
    assert round(parts.p * 3002) == pytest.approx(parts.p * 3002, abs=1e-6)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.01)


@pytest.mark.parametrize(
    ("system", "baseline"),
    [({}, {}), ({"a": 1.0}, {}), ({}, {"a": 1.0}), ({"a": 1.0}, {"b": 1.0}), ({"a": 1.0, "b": 1.0}, {"a": 1.0})],
)
def test_different_queries_are_refused(system: Values, baseline: Values) -> None:
    with pytest.raises(ValueError, match="the same queries on both sides, and at least one"):
        compare(system, baseline)
