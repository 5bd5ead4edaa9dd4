"""The curve over depths: its bound, its knee, the depth that is recommended, and what is written down of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.collection import Qrels
from secondstage.measures import Values, evaluate, mean
from secondstage.run import Run, rank
from secondstage.serve.depth import (
    SHALLOWEST,
    TOLERANCE,
    Curve,
    Timing,
    best,
    depths_up_to,
    describe,
    ideal_order,
    knee,
    recommend,
    sweep,
)
from secondstage.serve.fuse import MEASURE, choose_weight, fuse

DEPTHS = (5, 10, 20, 40)
CUTOFFS = ("nDCG@10", "nDCG@2", "RR@10", "R@3", "AP@10", "Success@1")


def ranked(lists: Mapping[str, Sequence[str]]) -> Run:
    """A run with these documents in this order."""
    return Run("first_stage", {q: rank(ids, -np.arange(len(ids)), ["bm25"] * len(ids)) for q, ids in lists.items()})


def collection(seed: int = 3, queries: int = 12, size: int = 40) -> tuple[Run, Qrels]:
    """A first stage, and graded judgements: of each query a few candidates, one document that no list holds, and 0s."""
    rng = np.random.default_rng(seed)
    lists = {f"q{i}": [f"d{d}" for d in rng.permutation(size)] for i in range(queries)}
    qrels: Qrels = {}
    for query_id in lists:
        judged = [f"d{d}" for d in rng.choice(size, 6, replace=False)]
        qrels[query_id] = dict(zip(judged, (3, 2, 1, 1, 0, -1), strict=True)) | {"missed": 1}
    return ranked(lists), qrels


def rescored_by_relevance(first: Run, qrels: Qrels, noise: float = 0.0) -> Run:
    rng = np.random.default_rng(0)
    scores = [qrels[query_id].get(doc_id, 0) + noise * rng.normal() for query_id, doc_id in first.pairs()]
    return first.rescored("reranked", scores)


def constant(first: Run) -> Run:
    return first.rescored("reranked", np.zeros(sum(1 for _ in first.pairs())))


def values(*numbers: float) -> Values:
    return {f"q{i}": number for i, number in enumerate(numbers)}


def curve_of(by_depth: Mapping[int, Values]) -> Curve:
    flat = (0.0,) * len(by_depth)
    return Curve(tuple(by_depth), flat, tuple(by_depth.values()), flat, flat, flat, 0.0)


def flat_curve(means: Mapping[int, float]) -> Curve:
    """Ten queries that all have the same value, so that no error is added to a loss."""
    return curve_of({depth: values(*[value] * 10) for depth, value in means.items()})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=6), st.integers(1, 7), st.integers(0, 3))
def test_no_order_of_the_head_is_better_than_the_ideal_one(grades: list[int], depth: int, missed: int) -> None:
    doc_ids = [f"d{i}" for i in range(len(grades))]
    # The last grade is of a document that is not in the list; unless it is 0, something is relevant.
    qrels = {"q": dict(zip([*doc_ids, "missed"], [*grades, missed], strict=True)) | {"other": 1}}
    ideal = ideal_order(ranked({"q": doc_ids}), qrels, depth)
    found = evaluate(ideal, qrels, CUTOFFS)
    assert ideal["q"].doc_ids[depth:] == tuple(doc_ids[depth:])
    for head in permutations(doc_ids[:depth]):
        others = evaluate(ranked({"q": [*head, *doc_ids[depth:]]}), qrels, CUTOFFS)
        assert all(others[measure]["q"] <= found[measure]["q"] + 1e-12 for measure in CUTOFFS)


def test_of_equally_relevant_documents_the_ideal_order_keeps_the_first_stage_s() -> None:
    first = ranked({"q": "abcdef", "unjudged": "abc"})
    ideal = ideal_order(first, {"q": {"b": 1, "e": 2, "d": 1, "a": -1, "c": 0}})
    assert ideal.name == "oracle"
    assert "".join(ideal["q"].doc_ids) == "ebdacf"
    assert "".join(ideal["unjudged"].doc_ids) == "abc"


def test_the_curve_is_the_pipeline_cut_at_each_depth() -> None:
    first, qrels = collection()
    reranked = rescored_by_relevance(first, qrels, noise=1.0)
    curve = sweep(first, reranked, qrels, DEPTHS, 0.6)
    assert curve.depths == DEPTHS
    assert curve.weights == (0.6,) * 4
    assert curve.first_stage == mean(evaluate(first, qrels, [MEASURE])[MEASURE])
    for i, depth in enumerate(DEPTHS):
        assert curve.pipeline[i] == evaluate(fuse(first, reranked, 0.6, depth), qrels, [MEASURE])[MEASURE]
        assert curve.means[i] == mean(curve.pipeline[i])
        assert curve.recall[i] == mean(evaluate(first.top(depth), qrels, ["R@1000"])["R@1000"])
    # At the deepest depth nothing is cut: this is the whole pipeline, and the reranker alone.
    assert curve.pipeline[-1] == evaluate(fuse(first, reranked, 0.6), qrels, [MEASURE])[MEASURE]
    assert curve.reranked[-1] == mean(evaluate(reranked, qrels, [MEASURE])[MEASURE])
    assert curve.oracle[-1] == mean(evaluate(ideal_order(first, qrels), qrels, [MEASURE])[MEASURE])
    assert len(set(curve.means)) == len(set(curve.oracle)) == len(set(curve.recall)) == 4


def test_without_a_weight_each_depth_has_its_own() -> None:
    first, qrels = collection()
    reranked = rescored_by_relevance(first, qrels, noise=1.0)
    curve = sweep(first, reranked, qrels, DEPTHS, None)
    choices = [choose_weight(first, reranked, qrels, depth) for depth in DEPTHS]
    assert curve.weights == tuple(choice.weight for choice in choices)
    assert curve.means == tuple(choice.value for choice in choices)
    assert len(set(curve.weights)) > 1


@pytest.mark.parametrize("weight", [None, 0.0, 0.5, 1.0])
def test_a_reranker_that_changes_nothing_gives_a_flat_curve(weight: float | None) -> None:
    first, qrels = collection()
    curve = sweep(first, constant(first), qrels, DEPTHS, weight)
    assert curve.means == curve.reranked == (curve.first_stage,) * 4
    assert set(curve.pipeline[0]) == set(qrels)


@pytest.mark.parametrize("seed", range(5))
def test_a_perfect_reranker_reaches_the_bound_and_none_goes_beyond(seed: int) -> None:
    first, qrels = collection(seed)
    perfect = sweep(first, rescored_by_relevance(first, qrels), qrels, DEPTHS, 1.0)
    assert perfect.means == perfect.reranked == perfect.oracle
    flawed = sweep(first, rescored_by_relevance(first, qrels, noise=1.0), qrels, DEPTHS, 0.7)
    assert flawed.oracle == perfect.oracle
    assert all(value <= bound for value, bound in zip(flawed.means, flawed.oracle, strict=True))
    assert flawed.means[-1] < flawed.oracle[-1]
    assert perfect.first_stage < perfect.oracle[0]


@pytest.mark.parametrize("seed", range(5))
def test_bound_and_recall_never_fall_with_depth(seed: int) -> None:
    first, qrels = collection(seed)
    curve = sweep(first, constant(first), qrels, range(1, 41), 0.5)
    for rising in (curve.oracle, curve.recall):
        assert list(rising) == sorted(rising)
        assert rising[0] < rising[-1]


def test_the_usual_depths_end_where_the_lists_do() -> None:
    assert depths_up_to(100) == (5, 10, 20, 30, 50, 75, 100)
    assert depths_up_to(60) == (5, 10, 20, 30, 50, 60)
    assert depths_up_to(5) == (5,)
    assert depths_up_to(3) == (3,)
    assert depths_up_to(5000)[-2:] == (1000, 5000)


@pytest.mark.parametrize(
    ("depths", "curve", "expected"),
    [
        # the example of the paper (figure 2): y = 5 - 1 / (x + 0.1), ten points; its knee is at 0.22
        (range(10), [5 - 1 / (i / 9 + 0.1) for i in range(10)], 2),
        # steep up to 20, then nearly level
        ([5, 10, 20, 50, 100], [0.1, 0.2, 0.4, 0.41, 0.42], 20),
        # beyond the best nothing counts: the chord ends at 50
        ([5, 10, 50, 100, 1000], [0.1, 0.3, 0.4, 0.2, 0.0], 10),
        # never above the chord: the best
        ([5, 10, 50, 100], [0.1, 0.11, 0.2, 0.4], 100),
        ([10, 20], [0.1, 0.2], 20),
        # level, falling, alone: the shallowest
        ([5, 10, 20], [0.3, 0.3, 0.3], 5),
        ([5, 10, 20], [0.3, 0.2, 0.1], 5),
        ([7], [0.3], 7),
        # rounding is no rise
        ([5, 10, 20], [0.3, 0.3 + 1e-16, 0.3 + 2e-16], 5),
    ],
)
def test_where_more_depth_stops_paying(depths: Sequence[int], curve: Sequence[float], expected: int) -> None:
    assert knee(depths, curve) == expected


@given(st.floats(0.001, 0.5), st.floats(0.0001, 0.01), st.lists(st.integers(1, 1000), min_size=2, unique=True))
def test_a_straight_line_has_no_knee(start: float, slope: float, depths: list[int]) -> None:
    depths.sort()
    assert knee(depths, [start + slope * depth for depth in depths]) == depths[-1]


def test_of_equal_values_the_shallowest_is_the_best() -> None:
    assert best([5, 10, 20, 50], [0.1, 0.4, 0.4 + 1e-12, 0.3]) == 10


def test_a_shallower_depth_that_loses_no_more_than_the_tolerance_is_recommended() -> None:
    assert TOLERANCE == 0.01
    assert recommend(flat_curve({10: 0.4, 20: 0.494, 50: 0.4951, 100: 0.5})) == 50
    assert recommend(flat_curve({10: 0.4, 20: 0.4951, 50: 0.5, 100: 0.48})) == 20
    assert recommend(flat_curve({10: 0.4, 20: 0.45, 50: 0.48, 100: 0.5})) == 100
    # Level, and nothing found at all.
    assert recommend(flat_curve({10: 0.5, 20: 0.5, 50: 0.5})) == 10
    assert recommend(flat_curve({10: 0.0, 20: 0.0})) == 10


def test_a_loss_must_be_small_beyond_its_standard_error() -> None:
    """At 10, half of the queries lose and half gain: on average a quarter of the tolerance, but who knows."""
    top = values(*[0.5] * 10)
    unsure = values(*[0.5 - 0.03, 0.5 + 0.0275] * 5)
    sure = values(*[0.5 - 0.00125] * 10)
    assert mean(unsure) == pytest.approx(mean(sure))
    assert recommend(curve_of({10: unsure, 20: top})) == 20
    assert recommend(curve_of({10: sure, 20: top})) == 10
    # With more queries of the same kind, it is known: sd 0.029, error 0.029 / √400 = 0.0015.
    many = [values(*list(found.values()) * 40) for found in (unsure, top)]
    assert recommend(curve_of(dict(zip((10, 20), many, strict=True)))) == 10


def test_the_loss_of_one_query_is_its_own_error() -> None:
    assert recommend(curve_of({10: values(0.4976), 20: values(0.5)})) == 10
    assert recommend(curve_of({10: values(0.4974), 20: values(0.5)})) == 20


def test_less_than_a_page_of_results_is_recommended_only_where_nothing_is_deeper() -> None:
    assert SHALLOWEST == 10
    assert recommend(flat_curve({5: 0.5, 10: 0.5, 20: 0.5})) == 10
    assert recommend(flat_curve({5: 0.9, 10: 0.5, 20: 0.51})) == 20
    assert recommend(flat_curve({5: 0.5, 8: 0.4})) == 8
    assert recommend(flat_curve({3: 0.5})) == 3


def test_only_depths_within_the_latency_budget_are_looked_at() -> None:
    curve = flat_curve({5: 0.2, 10: 0.3, 20: 0.4, 50: 0.5, 100: 0.6})
    times = [5.0, 10.0, 20.0, 50.0, 100.0]
    assert recommend(curve, times) == recommend(curve) == recommend(curve, None, 1.0) == 100
    assert [recommend(curve, times, budget) for budget in (1000, 100, 99.9, 50, 20, 10)] == [100, 100, 50, 50, 20, 10]
    # None is fast enough, or only less than a page is: the shallowest page.
    assert recommend(curve, times, 7) == recommend(curve, times, 1) == 10
    # The best is that of the depths within the budget.
    assert recommend(flat_curve({10: 0.397, 20: 0.4, 50: 0.6}), [1, 2, 3], 2) == 10


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=5), st.floats(0.5, 6))
def test_what_is_recommended_keeps_every_rule(by_depth: list[list[float]], budget: float) -> None:
    depths = [10 * (i + 1) for i in range(len(by_depth))]
    curve = curve_of({depth: values(*found) for depth, found in zip(depths, by_depth, strict=True)})
    chosen = depths.index(recommend(curve, [i + 1.0 for i in range(len(depths))], budget))
    affordable = [i for i in range(len(depths)) if i + 1 <= budget] or [0]
    assert chosen in affordable
    assert curve.means[chosen] >= (1 - TOLERANCE) * max(curve.means[i] for i in affordable) - 1e-9


@pytest.mark.parametrize("queries", [1, 12])
def test_what_is_written_down_is_json(queries: int) -> None:
    first, qrels = collection(queries=queries)
    curve = sweep(first, rescored_by_relevance(first, qrels, noise=1.0), qrels, DEPTHS, None)
    timings = {depth: Timing(depth / 2, float(depth)) for depth in DEPTHS}
    found = describe(curve, timings, 20, resamples=200, seed=1)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["queries"], found["depths"], found["recommended"]) == (queries, [5, 10, 20, 40], 20)
    assert found["pipeline"] == list(curve.means)
    assert all(found[key] == list(getattr(curve, key)) for key in ("weights", "reranked", "oracle", "recall"))
    assert found["first_stage"] == curve.first_stage
    assert (found["p50_ms"], found["p95_ms"]) == ([2.5, 5.0, 10.0, 20.0], [5.0, 10.0, 20.0, 40.0])
    assert (found["best"], found["knee"]) == (best(DEPTHS, curve.means), knee(DEPTHS, curve.means))
    assert (found["decay"]["low"] is None) == (found["decay"]["high"] is None) == (queries == 1)


def test_the_decay_is_that_from_the_best_depth_to_the_deepest() -> None:
    peak, end = values(*[0.5, 0.6] * 20), values(*[0.3, 0.5] * 20)
    found = describe(curve_of({10: values(*[0.2] * 40), 20: peak, 50: end}), {}, 20, resamples=500)["decay"]
    assert (found["from"], found["to"]) == (20, 50)
    assert found["delta"] == pytest.approx(-0.15)
    assert found["low"] < -0.15 < found["high"] < 0
    level = describe(curve_of({10: end, 20: peak}), {}, 20, resamples=500)["decay"]
    assert level == {"from": 20, "to": 20, "delta": 0.0, "low": 0.0, "high": 0.0}


def test_times_are_written_down_only_where_every_depth_has_one() -> None:
    found = describe(flat_curve({10: 0.1, 20: 0.2}), {10: Timing(1.0, 2.0)}, 20, resamples=100)
    assert found["p50_ms"] is None
    assert found["p95_ms"] is None
