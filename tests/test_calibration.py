"""Calibration against known parameters, other implementations, and what no calibration may do to an order."""

from __future__ import annotations

import json
from math import log
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss

from secondstage.calibrate import choose, crossfitted, fit
from secondstage.calibration import METHODS, Calibration, Method, relative, sigmoid
from secondstage.errors import UserError
from secondstage.reliability import Bin, expected_calibration_error, log_loss, reliability

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

logits = st.floats(-1e4, 1e4)
pairs = st.lists(st.tuples(logits, st.booleans()), min_size=2, max_size=30).filter(
    lambda found: len({relevant for _, relevant in found}) == 2
)
methods = pytest.mark.parametrize("method", METHODS)


def drawn(slope: float, intercept: float, n: int = 20_000, seed: int = 3) -> tuple[Floats, Mask]:
    """Scores, and relevance that has the probability sigmoid(slope × score + intercept)."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 3, n)
    return scores, rng.random(n) < 1 / (1 + np.exp(-slope * scores - intercept))


def split(found: list[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [score for score, _ in found], [relevant for _, relevant in found]


# --- one method


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0, 1000.0])
def test_temperature_is_recovered(temperature: float) -> None:
    scores, relevant = drawn(1.0, 0.0)
    found = fit("temperature", scores * temperature, relevant)
    assert 1 / found.slope == pytest.approx(temperature, rel=0.05)
    assert found.intercept == 0


def test_temperature_has_the_highest_likelihood() -> None:
    scores, relevant = drawn(0.4, -1.0, n=500)
    best = fit("temperature", scores, relevant)
    losses = [log_loss(sigmoid(scores * slope), relevant) for slope in np.geomspace(1e-3, 1e3, 2000)]
    assert log_loss(best.probability(scores), relevant) <= min(losses) + 1e-9


def test_scores_in_reverse_order_are_given_no_weight_by_temperature() -> None:
    scores, relevant = drawn(-1.0, 0.0)
    assert fit("temperature", scores, relevant).probability([-5.0, 5.0]) == pytest.approx([0.5, 0.5], abs=1e-2)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, -3.0), (2.0, 4.0)])
def test_platt_recovers_slope_and_intercept(slope: float, intercept: float) -> None:
    found = fit("platt", *drawn(slope, intercept))
    assert (found.slope, found.intercept) == pytest.approx((slope, intercept), rel=0.08, abs=0.08)


@pytest.mark.parametrize("n", [4, 50, 2000])
def test_platt_is_a_logistic_regression_on_smoothed_targets(n: int) -> None:
    scores, relevant = drawn(0.8, -1.0, n=n)
    positives, negatives = relevant.sum(), (~relevant).sum()
    targets = np.where(relevant, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    # A soft target is a pair that is relevant by its share, and is not by the rest.
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.tile(scores, 2)[:, None], np.repeat([1, 0], n), sample_weight=np.concatenate([targets, 1 - targets])
    )
    found = fit("platt", scores, relevant)
    assert found.slope > 0
    assert (found.slope, found.intercept) == pytest.approx((oracle.coef_[0, 0], oracle.intercept_[0]), rel=1e-4)


def test_platt_never_reverses_the_order() -> None:
    scores, relevant = drawn(-1.0, 0.5)
    found = fit("platt", scores, relevant)
    assert found.slope == 0
    # Without any use for the score, what remains is the share of relevant pairs.
    assert found.probability([0.0])[0] == pytest.approx(relevant.mean(), abs=1e-3)


def test_platt_does_not_mind_the_scale_or_one_extreme_score() -> None:
    scores, relevant = drawn(1.0, -1.0, n=2000)
    at = np.array([-2.0, 0.0, 2.0])
    expected = fit("platt", scores, relevant).probability(at)
    moved = fit("platt", scores * 1e3 + 1e4, relevant)
    assert moved.probability(at * 1e3 + 1e4) == pytest.approx(expected, rel=1e-4)
    outlier = fit("platt", np.append(scores, 1e4), np.append(relevant, True))
    # Its smoothed target, short of 1, pulls a little.
    assert outlier.probability(at) == pytest.approx(expected, rel=0.1)


def test_isotonic_is_the_regression_kept_off_0_and_1() -> None:
    scores, relevant = drawn(0.8, -1.0, n=300)
    found = fit("isotonic", scores, relevant)
    oracle = IsotonicRegression(out_of_bounds="clip").fit(scores, relevant)
    positives, negatives = relevant.sum(), (~relevant).sum()
    low, high = 1 / (negatives + 2), (positives + 1) / (positives + 2)
    at = np.linspace(-12, 12, 500)
    assert oracle.predict(at).min() == 0
    assert oracle.predict(at).max() == 1
    assert found.probability(at) == pytest.approx(low + (high - low) * oracle.predict(at), abs=1e-12)


def test_isotonic_pools_adjacent_violators() -> None:
    # Of the four in the middle, half are relevant, in the wrong order.
    scores = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    found = fit("isotonic", scores, [False, True, True, False, False, True])
    # 3 relevant, 3 others: Platt's targets are 4/5 and 1/5.
    assert found.probability(scores) == pytest.approx([0.2, 0.5, 0.5, 0.5, 0.5, 0.8])
    assert found.probability([-9.0, 1.5, 99.0]) == pytest.approx([0.2, 0.35, 0.8])


@methods
@settings(max_examples=60, deadline=None)
@given(found=pairs, at=st.lists(logits, min_size=1, max_size=20))
def test_probabilities_keep_the_order(method: Method, found: list[tuple[float, bool]], at: list[float]) -> None:
    scores, relevant = split(found)
    probabilities = fit(method, scores, relevant).probability(sorted([*at, *scores]))
    assert probabilities.dtype == np.float64
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    # As far as rounding goes.
    assert (np.diff(probabilities) >= -1e-12).all()


@methods
@settings(max_examples=40, deadline=None)
@given(found=pairs, order=st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_does_not_matter(method: Method, found: list[tuple[float, bool]], order: Any) -> None:
    shuffled = list(found)
    order.shuffle(shuffled)
    scores, relevant = split(found)
    expected = fit(method, scores, relevant).probability(scores)
    assert fit(method, *split(shuffled)).probability(scores) == pytest.approx(expected, abs=1e-3)


@methods
@settings(max_examples=40, deadline=None)
@given(found=pairs)
def test_json_gives_the_same_calibration(method: Method, found: list[tuple[float, bool]]) -> None:
    calibration = fit(method, *split(found))
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json(), allow_nan=False))) == calibration


@methods
def test_extreme_scores_have_finite_probabilities(method: Method) -> None:
    found = fit(method, *drawn(1.0, 0.0, n=200))
    probabilities = found.probability(np.array([-3e38, -1e4, 1e4, 3e38], np.float32))
    assert (probabilities[:2] < 0.05).all()
    assert (probabilities[2:] > 0.95).all()


@methods
def test_scores_that_separate_the_kinds_give_no_certainty_without_end(method: Method) -> None:
    found = fit(method, [-2.0, -1.0, 1.0, 2.0], [False, False, True, True])
    assert np.isfinite([found.slope, found.intercept, *found.x, *found.y]).all()
    low, high = found.probability([-1.0, 1.0])
    assert 0 < low < 0.5 < high <= 1


@methods
def test_equal_scores_all_get_the_same_probability(method: Method) -> None:
    found = fit(method, [0.1] * 10, [True] * 3 + [False] * 7).probability([0.1])[0]
    # Temperature has no intercept to say 3 of 10 with: a positive logit can only be made small.
    expected = 0.5 if method == "temperature" else (3 * 4 / 5 + 7 / 9) / 10
    assert found == pytest.approx(expected, abs=1e-3)


@methods
@pytest.mark.parametrize("relevant", [[True, True], [False, False]])
def test_one_kind_of_pair_is_refused(method: Method, relevant: list[bool]) -> None:
    with pytest.raises(ValueError, match="at least one relevant pair"):
        fit(method, [1.0, 2.0], relevant)
    with pytest.raises(ValueError, match="at least one relevant pair"):
        choose([1.0, 2.0], relevant, ["a", "b"], seed=1)


@pytest.mark.parametrize("scores", [[1.0], [1.0, 2.0, 3.0], [1.0, float("nan")], [float("inf"), 1.0]])
def test_broken_input_is_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="finite lists of one length"):
        fit("platt", scores, [True, False])


@pytest.mark.parametrize(
    ("record", "named"),
    [
        (None, "None"),
        ([], "method"),
        ({}, "method"),
        ({"method": "beta"}, "beta"),
        ({"method": ["platt"]}, "method"),
        ({"method": "platt", "slope": 1.0}, "intercept"),
        ({"method": "platt", "slope": "1", "intercept": 0}, "'1'"),
        ({"method": "platt", "slope": True, "intercept": 0}, "True"),
        ({"method": "platt", "slope": -0.5, "intercept": 0}, "-0.5"),
        ({"method": "temperature", "slope": float("nan"), "intercept": 0}, "nan"),
        ({"method": "temperature", "slope": 10**400, "intercept": 0}, "slope"),
        ({"method": "isotonic", "x": [1.0]}, "y"),
        ({"method": "isotonic", "x": [], "y": []}, "x"),
        ({"method": "isotonic", "x": "", "y": ""}, "x"),
        ({"method": "isotonic", "x": [1.0, 1.0], "y": [0.1, 0.2]}, "x must"),
        ({"method": "isotonic", "x": [1.0, 2.0], "y": [0.1]}, "y must"),
        ({"method": "isotonic", "x": [1.0, 2.0], "y": [0.2, 0.1]}, "y must"),
        ({"method": "isotonic", "x": [1.0, 2.0], "y": [0.2, 1.1]}, "1.1"),
        ({"method": "isotonic", "x": [1.0, 2.0], "y": [-0.2, 1.0]}, "-0.2"),
        ({"method": "isotonic", "x": [1.0, 2.0], "y": [0.2, None]}, "None"),
    ],
)
def test_a_broken_record_is_named(record: object, named: str) -> None:
    with pytest.raises(UserError, match=r"^calibration") as caught:
        Calibration.from_json(record)
    assert named in str(caught.value)


# --- the choice among methods


def grouped(n: int, size: int = 20) -> list[str]:
    return [f"q{i // size}" for i in range(n)]


def test_the_method_of_the_data_is_chosen() -> None:
    scores, relevant = drawn(0.5, 0.0, n=4000)
    assert choose(scores, relevant, grouped(4000), seed=5).method == "temperature"
    scores, relevant = drawn(0.5, -3.0, n=4000)
    assert choose(scores, relevant, grouped(4000), seed=5).method == "platt"
    # Two steps: no sigmoid has them.
    rng = np.random.default_rng(1)
    steps = np.where(scores < -1, 0.05, np.where(scores < 3, 0.5, 0.95))
    assert choose(scores, rng.random(4000) < steps, grouped(4000), seed=5).method == "isotonic"


def shifted(queries: int, size: int) -> tuple[Any, Any, list[str]]:
    """One relevant document a query, three logits above the others, and each query's logits shifted at random."""
    rng = np.random.default_rng(3)
    relevant = np.arange(queries * size) % size == 0
    scores = rng.normal(size=queries * size) + 3 * relevant + np.repeat(rng.normal(scale=5, size=queries), size)
    return scores, relevant, grouped(queries * size, size)


def test_a_document_alone_is_not_sure_because_it_is_alone() -> None:
    """A share in the list is the best sign; of a list of one, it is all of it, whatever the logit."""
    scores, relevant, groups = shifted(200, 20)
    found = choose(scores, relevant, groups, seed=5)
    assert (found.basis, found.least) == ("list", 10)
    assert found.alone is not None
    assert found.alone.basis == "score"
    assert found.of_list([3.0]) == pytest.approx(found.alone.of_list([3.0]))
    assert found.of_list([-30.0])[0] < 0.3 < found.of_list([3.0, *np.full(19, -5.0)])[0]
    whole, part = np.linspace(-2, 2, 10), np.linspace(-2, 2, 9)
    assert found.of_list(whole) == pytest.approx(found.probability(relative(whole, [""] * 10)))
    assert found.of_list(part) == pytest.approx(found.alone.probability(part))
    # Each list by its own size.
    both = found.of_lists([*whole, *part], ["a"] * 10 + ["b"] * 9)
    assert both == pytest.approx([*found.of_list(whole), *found.of_list(part)])
    assert Calibration.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    "change",
    [{"least": -1}, {"least": None}, {"least": True}, {"alone": {"method": "no"}}, {"basis": "score"}, {"alone": 3}],
)
def test_a_broken_map_for_short_lists_is_named(change: dict[str, Any]) -> None:
    found = Calibration("platt", 1.0, 0.0, basis="list", least=5, alone=Calibration("platt", 2.0, 1.0))
    with pytest.raises(UserError, match="calibration"):
        Calibration.from_json(found.to_json() | change)


def test_the_choice_is_fitted_on_everything() -> None:
    scores, relevant = drawn(0.5, -3.0, n=1000)
    found = choose(scores, relevant, grouped(1000), seed=5)
    assert found == fit(found.method, scores, relevant)


def test_of_equal_methods_the_simplest_is_chosen() -> None:
    # Equal scores of both kinds in equal numbers: every method says one half.
    scores, relevant = [0.0] * 40, [True, False] * 20
    assert choose(scores, relevant, grouped(40, 4), seed=1).method == "temperature"


def test_candidates_of_a_query_are_kept_together() -> None:
    # Each query has scores of its own, all relevant or none: only who has seen the query can know which. A calibration
    # that had would be isotonic and nearly certain; to one that has not, the scores say nothing.
    rng = np.random.default_rng(2)
    kinds = rng.permutation([True, False] * 10)
    scores = np.repeat(rng.normal(0, 3, 20), 30)
    relevant, groups = np.repeat(kinds, 30), grouped(600, 30)
    apart = [str(i) for i in range(600)]
    assert choose(scores, relevant, apart, seed=1).method == "isotonic"
    assert choose(scores, relevant, groups, seed=1).method != "isotonic"


@pytest.mark.parametrize("queries", [1, 2, 3])
def test_few_queries_are_enough(queries: int) -> None:
    scores, groups = [2.0, 1.0, -1.0] * queries, grouped(3 * queries, 3)
    found = choose(scores, [True, False, False] * queries, groups, seed=1)
    assert ((found.probability(scores) > 0) & (found.probability(scores) < 1)).all()


def test_one_query_with_a_relevant_pair_gives_no_comparison() -> None:
    scores, relevant = [2.0, 1.0, 0.0, -1.0], [True, False, False, False]
    groups = ["a", "a", "b", "b"]
    assert choose(scores, relevant, groups, seed=1).method == "platt"
    with pytest.raises(ValueError, match="two queries"):
        crossfitted(scores, relevant, groups, seed=1)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(logits, st.booleans(), st.integers(0, 6)), min_size=4, max_size=25),
    st.integers(2, 6),
    st.integers(0, 3),
)
def test_any_two_queries_of_each_kind_can_be_crossfitted(
    found: list[tuple[float, bool, int]], folds: int, seed: int
) -> None:
    scores, relevant = split([(score, kind) for score, kind, _ in found])
    groups = [f"q{query}" for _, _, query in found]
    enough = all(len({query for _, kind, query in found if kind is wanted}) >= 2 for wanted in (True, False))
    if enough:
        probabilities = crossfitted(scores, relevant, groups, folds=folds, seed=seed)
        assert ((probabilities >= 0) & (probabilities <= 1)).all()
    else:
        with pytest.raises(ValueError, match="two queries"):
            crossfitted(scores, relevant, groups, folds=folds, seed=seed)


def test_a_query_is_not_calibrated_by_its_own_relevance() -> None:
    # With a fold for each query, what a query's labels are must not move its own probabilities.
    scores, relevant = drawn(1.0, -1.0, n=100)
    groups, own = grouped(100, 10), slice(30, 40)
    changed = relevant.copy()
    changed[own] = ~changed[own]
    before, after = (crossfitted(scores, kind, groups, folds=10, seed=4) for kind in (relevant, changed))
    assert (before[own] == after[own]).all()
    assert (before != after).any()


def test_crossfitted_probabilities_are_calibrated() -> None:
    scores, relevant = drawn(0.5, -2.0, n=4000)
    probabilities = crossfitted(scores, relevant, grouped(4000), seed=4)
    assert expected_calibration_error(probabilities, relevant) < 0.02
    assert expected_calibration_error(sigmoid(scores), relevant) > 0.1
    assert (probabilities == crossfitted(scores, relevant, grouped(4000), seed=4)).all()


@pytest.mark.parametrize(("folds", "groups"), [(1, ["a", "b"]), (2, ["a"])])
def test_broken_folds_are_refused(folds: int, groups: list[str]) -> None:
    with pytest.raises(ValueError, match="folds of"):
        choose([1.0, 0.0], [True, False], groups, folds=folds, seed=1)


# --- how well probabilities fit


def test_bins_and_error_of_a_small_case() -> None:
    probabilities, relevant = [0.1, 0.2, 0.6, 0.9, 1.0], [False, True, True, True, False]
    low, high = reliability(probabilities, relevant, bins=2)
    assert low == pytest.approx(Bin(probability=0.15, relevant=1 / 2, pairs=2))
    assert high == pytest.approx(Bin(probability=2.5 / 3, relevant=2 / 3, pairs=3))
    assert expected_calibration_error(probabilities, relevant, bins=2) == pytest.approx(0.4 * 0.35 + 0.6 * 0.5 / 3)


def test_the_ends_belong_to_the_outer_bins() -> None:
    assert reliability([0.0, 1.0], [False, True]) == [Bin(0.0, 0.0, 1), Bin(1.0, 1.0, 1)]


def test_calibrated_probabilities_have_no_error_and_others_have() -> None:
    rng = np.random.default_rng(9)
    probabilities = rng.random(100_000)
    relevant = rng.random(100_000) < probabilities
    assert expected_calibration_error(probabilities, relevant) < 0.01
    # The square of a uniform is a third on average, and never above it.
    assert expected_calibration_error(probabilities**2, relevant) == pytest.approx(1 / 2 - 1 / 3, abs=0.01)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40), st.integers(1, 20))
def test_bins_hold_every_pair(found: list[tuple[float, bool]], bins: int) -> None:
    probabilities, relevant = split(found)
    diagram = reliability(probabilities, relevant, bins)
    assert sum(part.pairs for part in diagram) == len(found)
    assert sum(part.pairs * part.relevant for part in diagram) == pytest.approx(sum(relevant))
    assert sum(part.pairs * part.probability for part in diagram) == pytest.approx(sum(probabilities))
    # |the mean difference| is the error of one bin, and more bins cannot make it smaller.
    assert (
        expected_calibration_error(probabilities, relevant, bins)
        >= abs(np.mean(probabilities) - np.mean(relevant)) - 1e-9
    )


def test_no_pair_has_no_error() -> None:
    assert reliability([], []) == []
    assert expected_calibration_error([], []) == 0
    assert log_loss([], []) == 0


def test_log_loss_is_that_of_sklearn_and_never_infinite() -> None:
    scores, relevant = drawn(1.0, 0.0, n=200)
    probabilities = sigmoid(scores)
    assert log_loss(probabilities, relevant) == pytest.approx(sklearn_log_loss(relevant, probabilities))
    assert log_loss([0.0, 1.0], [True, False]) == pytest.approx(-log(1e-12))


@given(logits)
def test_sigmoid_is_symmetric(logit: float) -> None:
    assert sigmoid(logit) + sigmoid(-logit) == pytest.approx(1)
    assert sigmoid(logit) == pytest.approx(np.exp(-np.logaddexp(0, -logit)), rel=1e-12)
