"""The paired comparison against enumeration, against its nominal levels, and under what must not change it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import combinations, product
from math import ceil, inf, isnan, nan, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import nct as noncentral
from scipy.stats import t as student

from secondstage import significance
from secondstage.measures import Values
from secondstage.significance import (
    Comparison,
    compare,
    compare_all,
    compare_pairs,
    detectable,
    holm,
)

Floats = npt.NDArray[np.float64]
SIMULATIONS = 2000
# Simulations that share their resamples, which is what makes so many of them quick.
TOGETHER = 50


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


@settings(max_examples=40, deadline=None, derandomize=True)  # of many examples, some are beyond any bound
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


def normal(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    """Two systems whose values go together, as those of real queries do; the difference is normal."""
    easy = rng.normal(size=n)
    return easy + 0.25 * rng.normal(size=n), easy + 0.25 * rng.normal(size=n)


def ndcg_like(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    """nDCG@10 of one relevant document a query: of seven queries, three keep its rank, others gain much or lose."""
    before = rng.geometric(0.25, n)
    moved = np.where(rng.random(n) < 0.7, np.maximum(1, before // 2), rng.geometric(0.15, n))
    after = np.where(rng.random(n) < 0.3, before, moved)
    better, worse = (np.where(rank <= 10, 1 / np.log2(rank + 1), 0.0) for rank in (after, before))
    return better, worse


Draw = Callable[[np.random.Generator, int], tuple[Floats, Floats]]
KINDS = pytest.mark.parametrize(("draw", "n"), list(product((normal, ndcg_like), (50, 100))))


def simulated(draw: Callable[[], tuple[Floats, Floats]], confidence: float = 0.95) -> Iterator[Comparison]:
    """Comparisons of fresh queries, again and again."""
    for seed in range(SIMULATIONS // TOGETHER):
        drawn = (draw() for _ in range(TOGETHER))
        pairs = {i: (values(system), values(baseline)) for i, (system, baseline) in enumerate(drawn)}
        yield from compare_pairs(pairs, resamples=999, seed=seed, confidence=confidence).values()


def test_ndcg_like_values_are_bounded_skewed_and_often_equal() -> None:
    better, worse = ndcg_like(np.random.default_rng(0), 100_000)
    differences = better - worse
    assert min(better.min(), worse.min()) == 0
    assert max(better.max(), worse.max()) == 1
    assert 0.4 < (differences == 0).mean() < 0.6
    assert abs(((differences - differences.mean()) ** 3).mean()) > 0.5 * differences.std() ** 3


@KINDS
def test_without_a_difference_one_test_in_twenty_is_significant(draw: Draw, n: int) -> None:
    rng = np.random.default_rng(7)

    def without_difference() -> tuple[Floats, Floats]:
        # For each query a coin says which of the two systems is which.
        one, other = draw(rng, n)
        swapped = rng.random(n) < 0.5
        return np.where(swapped, other, one), np.where(swapped, one, other)

    significant = sum(found.p <= 0.05 for found in simulated(without_difference))
    # Binomial(2000, 0.05) has a standard deviation of 0.5 %.
    assert significant / SIMULATIONS == pytest.approx(0.05, abs=0.015)


COVERED = [(*kind, 0.95, 0.015) for kind in product((normal, ndcg_like), (50, 100))] + [(normal, 50, 0.8, 0.025)]


@pytest.mark.parametrize(("draw", "n", "confidence", "within"), COVERED)
def test_the_interval_covers_the_truth_as_often_as_it_says(
    draw: Draw, n: int, confidence: float, within: float
) -> None:
    rng = np.random.default_rng(11)
    # Queries are drawn from a population whose mean is known exactly.
    system, baseline = draw(rng, 100_000)
    truth = float((system - baseline).mean())

    def queries() -> tuple[Floats, Floats]:
        drawn = rng.integers(0, len(system), n)
        return system[drawn], baseline[drawn]

    covered = sum(found.low <= truth <= found.high for found in simulated(queries, confidence))
    # Three standard deviations of Binomial(2000, confidence).
    assert covered / SIMULATIONS == pytest.approx(confidence, abs=within)


@KINDS
def test_a_difference_that_is_just_detectable_is_found_four_times_in_five(draw: Draw, n: int) -> None:
    rng = np.random.default_rng(5)
    system, baseline = draw(rng, 100_000)
    differences = system - baseline
    shown: Floats = differences - differences.mean() + detectable(float(differences.std()), n)
    found = simulated(lambda: (shown[rng.integers(0, len(shown), n)], np.zeros(n)))
    assert sum(each.p <= 0.05 for each in found) / SIMULATIONS == pytest.approx(0.8, abs=0.05)


def test_for_few_queries_the_interval_is_as_wide_as_students() -> None:
    n = 12
    differences = np.array([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)])
    found = against_zero(differences, resamples=40_000)
    half = float(student.ppf(0.975, n - 1)) * differences.std(ddof=1) / sqrt(n)
    assert (found.low, found.high) == pytest.approx((-half, half), rel=0.05)
    # Plain percentiles would be narrower by far more.
    assert 1.96 * differences.std() / sqrt(n) < 0.86 * half


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
@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(0, 5))
def test_identical_systems_differ_in_nothing(numbers: list[float], seed: int) -> None:
    found = compare(values(numbers), values(numbers), resamples=100, seed=seed)
    assert found == Comparison(0.0, 0.0, 0.0, p=1.0, wins=0, ties=len(numbers), losses=0, sd=0.0, p_holm=1.0)
    assert found.detectable == 0.0


def test_wins_ties_and_losses_are_counted_and_rounding_is_a_tie() -> None:
    found = against_zero([0.5, 0.1, 1e-9, 0.0, 1e-13, -1e-13, -0.2])
    assert (found.wins, found.ties, found.losses) == (3, 3, 1)
    assert found.delta == pytest.approx((0.5 + 0.1 + 1e-9 - 0.2) / 7, abs=1e-15)
    rounded = compare({"q": 0.1 + 0.2}, {"q": 0.3})
    assert (rounded.delta, rounded.p, rounded.ties) == (0.0, 1.0, 1)


def test_one_query_proves_nothing() -> None:
    for difference, counts in ((0.4, (1, 0, 0)), (-0.4, (0, 0, 1)), (0.0, (0, 1, 0))):
        found = against_zero([difference])
        assert (found.delta, found.low, found.high, found.p) == (difference, -inf, inf, 1.0)
        assert (found.wins, found.ties, found.losses) == counts
        assert isnan(found.sd)
        assert (found.queries, found.detectable) == (1, inf)


def test_the_standard_deviation_is_that_of_a_sample() -> None:
    found = against_zero([0.1, 0.2, 0.3, 0.4, 0.0])
    # Squared deviations from 0.2 sum to 0.1.
    assert found.sd == pytest.approx(sqrt(0.1 / 4))
    assert found.queries == 5
    assert found.detectable == detectable(found.sd, 5)


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


@pytest.mark.parametrize("wrong", [nan, inf, -inf])
def test_values_that_are_not_finite_are_refused(wrong: float) -> None:
    fine = {"a": 1.0, "b": 0.5, "c": 0.5}
    for system, baseline in (({**fine, "b": wrong}, fine), (fine, {**fine, "b": wrong})):
        with pytest.raises(ValueError, match="1 queries have a value that is not finite"):
            compare(system, baseline)


def several(seed: int = 9, n: int = 40) -> dict[str, Values]:
    """From a system that is no better to one that clearly is."""
    rng = np.random.default_rng(seed)
    return {f"plus{i}": values(0.05 * i + 0.3 * rng.standard_normal(n)) for i in range(5)}


def assert_alike(one: Comparison, other: Comparison) -> None:
    """But for the adjusted p, and for what the order of a sum rounds."""
    assert one._replace(p_holm=0.0) == pytest.approx(other._replace(p_holm=0.0), abs=1e-12)
    assert one.p == other.p


@pytest.mark.parametrize("seed", [13, 14])
def test_comparisons_made_together_are_those_made_alone_but_for_the_adjusted_p(seed: int) -> None:
    systems, baseline = several(), values(np.zeros(40))
    pairs = {("one", "zero"): (systems["plus1"], baseline), ("four", "two"): (systems["plus4"], systems["plus2"])}
    together = compare_pairs(pairs, resamples=500, seed=seed, confidence=0.9)
    assert list(together) == list(pairs)
    for name, pair in pairs.items():
        alone = compare(*pair, resamples=500, seed=seed, confidence=0.9)
        assert_alike(together[name], alone)
        assert alone.p_holm == alone.p
    adjusted = holm({name: found.p for name, found in together.items()})
    assert {name: found.p_holm for name, found in together.items()} == adjusted
    assert adjusted != {name: found.p for name, found in together.items()}


def test_several_systems_share_a_baseline() -> None:
    systems, baseline = several(), values(np.random.default_rng(4).random(40))
    found = compare_all(systems, baseline, resamples=300)
    assert found == compare_pairs({name: (system, baseline) for name, system in systems.items()}, resamples=300)
    assert compare_all({}, baseline) == {}
    assert compare_pairs({}) == {}


def test_comparisons_made_together_need_the_same_queries() -> None:
    one, other, more = values([1.0, 2.0]), {"q0": 1.0, "x": 2.0}, values([1.0, 2.0, 3.0])
    for second in (other, more):
        with pytest.raises(ValueError, match="comparisons that are made together need the same queries"):
            compare_pairs({"a": (one, one), "b": (second, second)})
    with pytest.raises(ValueError, match="the same queries on both sides"):
        compare_all({"a": one, "b": one}, more)


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        # 3 × 0.01; 2 × 0.02; 1 × 0.03 falls below the one before it
        ([0.01, 0.02, 0.03], [0.03, 0.04, 0.04]),
        # the same in another order
        ([0.03, 0.01, 0.02], [0.04, 0.03, 0.04]),
        # 4 × 0.005; 3 × 0.01; 2 × 0.03; 1 × 0.04 falls below (Holm's own step-down, as in R's `p.adjust`)
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.01, 0.5, 0.01], [0.03, 0.5, 0.03]),
        ([0.04, 1.0], [0.08, 1.0]),
    ],
)
def test_adjusted_p_by_hand(p: list[float], adjusted: list[float]) -> None:
    assert list(holm(dict(enumerate(p))).values()) == pytest.approx(adjusted, abs=1e-12)


p_values = st.lists(st.one_of(st.floats(1e-4, 1), st.sampled_from([0.001, 0.01, 0.05, 1.0])), min_size=1, max_size=7)


@given(p_values)
def test_holm_is_bonferroni_in_every_set_of_comparisons_at_once(p: list[float]) -> None:
    """The closed test (Marcus, Peritz and Gabriel 1976): a null hypothesis falls with every set that holds it."""
    sets = [chosen for size in range(1, len(p) + 1) for chosen in combinations(range(len(p)), size)]
    expected = {i: max(min(1.0, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(len(p))}
    assert holm(dict(enumerate(p))) == pytest.approx(expected, abs=1e-12)


@given(p_values, st.randoms())
def test_adjusting_never_lowers_nor_reorders(p: list[float], order: random.Random) -> None:
    named = dict(enumerate(p))
    adjusted = holm(named)
    assert list(adjusted) == list(named)
    assert all(p[i] <= adjusted[i] <= 1 for i in named)
    assert all(adjusted[i] <= adjusted[j] for i, j in product(named, named) if p[i] <= p[j])
    least = min(named, key=lambda i: p[i])
    assert adjusted[least] == min(1.0, len(p) * p[least])
    assert holm(dict(order.sample(list(named.items()), len(named)))) == adjusted


def test_what_so_many_queries_can_show() -> None:
    # For many queries 1.95996 and 0.84162 standard errors: 5 % two-sided, and 80 % of the alternative.
    errors = 1.959964 + 0.841621
    assert detectable(0.25, 100_000) == pytest.approx(errors * 0.25 / sqrt(100_000), rel=1e-4)
    assert detectable(0.25, 650) == pytest.approx(0.027, abs=0.001)
    # The t test needs 1.92 queries (half of 1.96 squared) more than the normal distribution says (Guenther 1981).
    needed = ceil((errors * 0.25 / 0.02) ** 2 + 1.959964**2 / 2)
    assert detectable(0.25, needed) <= 0.02 < detectable(0.25, needed - 1)
    assert detectable(nan, 1) == detectable(0.25, 1) == inf
    assert detectable(0.25, 43, alpha=0.01) > detectable(0.25, 43) > detectable(0.25, 43, power=0.5)
    # At a power of one half it is about the critical value itself, that of 42 degrees of freedom.
    assert detectable(0.25, 43, power=0.5) == pytest.approx(2.018082 * 0.25 / sqrt(43), rel=0.01)


@pytest.mark.parametrize("n", [2, 3, 5, 16, 100, 2000])
def test_the_t_test_has_just_the_power_that_was_asked_for(n: int) -> None:
    """Against scipy's noncentral t, whose other tail, a difference in the wrong direction, is next to nothing."""
    shift = detectable(0.3, n, alpha=0.01, power=0.9) / 0.3 * sqrt(n)
    critical = student.ppf(0.995, n - 1)
    assert noncentral.sf(critical, n - 1, shift) == pytest.approx(0.9, abs=1e-4)


def test_differences_that_are_all_equal_are_their_own_mean_and_interval_to_the_bit() -> None:
    system, baseline = {f"q{i}": 0.4 for i in range(10)}, {f"q{i}": 0.3 for i in range(10)}
    found = compare(system, baseline, resamples=500)
    assert found.delta == found.low == found.high == 0.4 - 0.3
    assert found.sd == 0.0


def test_what_is_detectable_is_so_at_the_level_that_decides() -> None:
    rng = np.random.default_rng(7)
    system = {f"q{i}": float(value) for i, value in enumerate(rng.random(50))}
    baseline = dict.fromkeys(system, 0.5)
    strict, usual = (compare(system, baseline, confidence=confidence, resamples=100) for confidence in (0.99, 0.95))
    assert usual.detectable == detectable(usual.sd, 50)
    assert strict.detectable == detectable(strict.sd, 50, alpha=1 - 0.99) > usual.detectable
