"""Where systems stand: values against arithmetic, comparisons over shared queries, and adjusted p values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.collection import Qrels
from secondstage.config import EvaluateConfig
from secondstage.measures import evaluate
from secondstage.run import Run, rank
from secondstage.serve.depth import ideal_order
from secondstage.serve.proof.standing import (
    COMPARED,
    Standing,
    comparisons,
    gain_kept,
    gap_closed,
    measures_at,
    part,
    standing,
    systems,
)
from secondstage.significance import compare, holm

CONFIG = EvaluateConfig(resamples=300)
MEASURE = "nDCG@10"
QUERIES = [f"q{i:02}" for i in range(40)]
SAMPLE = QUERIES[::4]
QRELS: Qrels = {query_id: {"d0": 1, "d7": 2, "d9": 0} for query_id in QUERIES}
Row = dict[str, Any]


def noisy(name: str, seed: int, gain: float = 0.0, query_ids: list[str] = QUERIES) -> Run:
    """A run over ten documents, random but for `gain`, which is added for the relevant ones."""
    rng = np.random.default_rng(seed)
    relevant = np.isin(np.arange(10), (0, 7))
    return Run(
        name,
        {
            query_id: rank([f"d{i}" for i in range(10)], rng.normal(size=10) + gain * relevant, ["bm25"] * 10)
            for query_id in query_ids
        },
    )


@pytest.fixture(scope="module")
def found() -> Standing:
    first = noisy("first_stage", 1)
    runs = {
        "first_stage": first,
        "reranked": noisy("reranked", 2, 3.0),
        "pipeline": noisy("pipeline", 3, 1.5),
        "identity": first.named("identity"),
        "random": noisy("random", 4),
        "oracle": ideal_order(first, QRELS),
        "bm25": noisy("bm25", 5, 0.5),
        "dense": noisy("dense", 6, 0.3),
        "teacher": noisy("teacher", 7, 4.0, SAMPLE),
    }
    return standing(runs, QRELS, measures_at(10))


@pytest.fixture(scope="module")
def rows(found: Standing) -> list[Row]:
    return comparisons(found, CONFIG, seed=13)


def pick(rows: list[Row], system: str, baseline: str = "first_stage", measure: str = MEASURE) -> Row:
    (row,) = (r for r in rows if (r["system"], r["baseline"], r["measure"]) == (system, baseline, measure))
    return row


# --- measures


def test_measures_reach_no_deeper_than_the_lists() -> None:
    assert set(measures_at(20)) == {
        *("nDCG@5", "nDCG@10", "nDCG@20", "RR@10", "R@5", "R@10", "R@20", "AP@20"),
        *("Success@1", "Success@5", "Success@10", "Judged@10"),
    }
    assert {"AP@15", "R@15"} <= set(measures_at(15))
    assert "nDCG@20" not in measures_at(15)


@pytest.mark.parametrize("depth", [1, 3, 5, 7, 10, 20, 100, 1000])
def test_what_is_compared_is_always_measured(depth: int) -> None:
    names = measures_at(depth)
    assert len(set(names)) == len(names)
    assert {*COMPARED, f"R@{depth}", f"AP@{depth}"} <= set(names)
    assert all(int(name.partition("@")[2]) <= depth for name in names if name not in COMPARED)
    evaluate(noisy("first_stage", 1), QRELS, names)  # all are known


def test_values_are_those_of_the_measures_and_means_their_means(found: Standing) -> None:
    expected = evaluate(noisy("reranked", 2, 3.0), QRELS, ["nDCG@10", "AP@10"])
    assert found["reranked"]["nDCG@10"] == expected["nDCG@10"]
    means = systems(found)["reranked"]
    assert means["queries"] == 40
    assert means["measures"].keys() == set(measures_at(10))
    assert means["measures"]["AP@10"] == pytest.approx(np.mean(list(expected["AP@10"].values())))


def test_a_sampled_system_is_scored_on_its_sample_alone(found: Standing) -> None:
    sampled = systems(found)["teacher"]
    assert sampled["queries"] == len(SAMPLE) == 10
    assert list(found["teacher"][MEASURE]) == SAMPLE
    whole = evaluate(noisy("teacher", 7, 4.0, SAMPLE), QRELS, [MEASURE])[MEASURE]
    assert sampled["measures"][MEASURE] == pytest.approx(4 * np.mean(list(whole.values())))


def test_a_query_that_a_system_answers_with_nothing_counts() -> None:
    run = Run("first_stage", {"q00": rank([], [], []), "q01": rank(["d7", "d0"], [2, 1], ["bm25"] * 2)})
    assert standing({"first_stage": run}, QRELS, [MEASURE])["first_stage"] == {MEASURE: {"q00": 0.0, "q01": 1.0}}


# --- comparisons


def test_who_is_compared_with_whom(rows: list[Row]) -> None:
    """In this order for each measure; identity and oracle are no question."""
    expected = [
        *((name, "first_stage") for name in ("reranked", "pipeline", "random", "bm25", "dense", "teacher")),
        *(("pipeline", name) for name in ("bm25", "dense")),
    ]
    for measure in COMPARED:
        assert [(row["system"], row["baseline"]) for row in rows if row["measure"] == measure] == expected
    assert [row["measure"] for row in rows] == [COMPARED[0]] * 8 + [COMPARED[1]] * 8


@pytest.mark.parametrize("measure", COMPARED)
def test_each_comparison_is_that_of_the_two_alone(found: Standing, rows: list[Row], measure: str) -> None:
    for system, baseline in (("pipeline", "first_stage"), ("random", "first_stage"), ("pipeline", "dense")):
        expected = compare(found[system][measure], found[baseline][measure], resamples=300, seed=13)
        row = pick(rows, system, baseline, measure)
        assert row["delta"] == pytest.approx(expected.delta)
        assert (row["low"], row["high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))
        assert (row["p"], row["queries"], row["wins"]) == (expected.p, expected.queries, expected.wins)
        assert (row["ties"], row["losses"]) == (expected.ties, expected.losses)
        assert row["detectable"] == pytest.approx(expected.detectable)


def test_a_sampled_system_is_compared_over_the_shared_queries_only(found: Standing, rows: list[Row]) -> None:
    row = pick(rows, "teacher")
    shared = {query_id: found["first_stage"][MEASURE][query_id] for query_id in SAMPLE}
    expected = compare(found["teacher"][MEASURE], shared, resamples=300, seed=13)
    assert row["queries"] == 10
    assert row["delta"] == pytest.approx(expected.delta)
    assert (row["low"], row["p"]) == (pytest.approx(expected.low), expected.p)
    assert row["delta"] != pytest.approx(
        np.mean(list(found["teacher"][MEASURE].values())) - np.mean(list(found["first_stage"][MEASURE].values()))
    )


def test_a_samples_neighbours_do_not_change_the_others(found: Standing, rows: list[Row]) -> None:
    alone = comparisons({name: found[name] for name in found if name != "teacher"}, CONFIG, seed=13)
    for row in alone:
        other = pick(rows, row["system"], row["baseline"], row["measure"])
        assert {**row, "p_holm": 0} == {**other, "p_holm": 0}


@pytest.mark.parametrize("measure", COMPARED)
def test_p_values_are_adjusted_over_all_systems_of_a_measure(rows: list[Row], measure: str) -> None:
    own = {(row["system"], row["baseline"]): row for row in rows if row["measure"] == measure}
    expected = holm({key: row["p"] for key, row in own.items()})
    assert {key: row["p_holm"] for key, row in own.items()} == expected
    assert len(set(expected.values())) > 1
    smallest = min(row["p"] for row in own.values())
    assert min(expected.values()) == pytest.approx(8 * smallest)


def test_without_an_oracle_or_a_hybrid_what_is_left_is_compared(found: Standing) -> None:
    few = comparisons({name: found[name] for name in ("first_stage", "reranked")}, CONFIG, seed=13)
    assert [(row["system"], row["measure"], row["gap_closed"]) for row in few] == [
        ("reranked", MEASURE, None),
        ("reranked", "RR@10", None),
    ]
    assert comparisons({"first_stage": found["first_stage"]}, CONFIG, seed=13) == []


def test_one_query_has_no_interval() -> None:
    runs = {"first_stage": noisy("first_stage", 1, 0, ["q00"]), "pipeline": noisy("pipeline", 2, 9, ["q00"])}
    row = pick(comparisons(standing(runs, QRELS, measures_at(10)), CONFIG, seed=13), "pipeline")
    assert (row["queries"], row["low"], row["high"], row["sd"], row["detectable"]) == (1, None, None, None, None)
    assert (row["p"], row["p_holm"]) == (1, 1)


# --- the gap to the oracle

BASELINE = {"a": 0.2, "b": 0.5, "c": 1.0}
BEST = {"a": 0.8, "b": 0.7, "c": 1.0}


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (BEST, 1),
        (BASELINE, 0),
        ({"a": 0.6, "b": 0.5, "c": 1.0}, 0.5),
        ({"a": 0.0, "b": 0.5, "c": 0.8}, -0.5),
        ({"a": 0.5}, 0.5),  # over the shared queries: 0.3 of 0.6
        ({"b": 0.6, "c": 1.0}, 0.5),
        ({"c": 0.4}, None),
        ({}, None),
    ],
)
def test_the_gap_closed_in_closed_form(system: Mapping[str, float], expected: float | None) -> None:
    found = gap_closed(dict(system), BASELINE, BEST)
    assert found == (None if expected is None else pytest.approx(expected))


def test_nothing_to_gain_and_no_oracle() -> None:
    assert gap_closed({"a": 0.1}, {"a": 1.0}, {"a": 1.0}) is None
    assert gap_closed(BEST, BASELINE, {}) is None


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1)), min_size=1, max_size=8))
def test_a_system_within_the_oracle_closes_no_more_than_all(values: list[tuple[float, float, float]]) -> None:
    baseline = {str(i): low for i, (low, _, _) in enumerate(values)}
    best = {str(i): low + gain for i, (low, _, gain) in enumerate(values)}
    system = {str(i): low + share * gain for i, (low, share, gain) in enumerate(values)}
    found = gap_closed(system, baseline, best)
    assert found is not None
    assert -1e-9 <= found <= 1 + 1e-9


def test_the_gap_is_that_of_the_primary_measure(found: Standing, rows: list[Row]) -> None:
    for row in rows:
        assert (row["gap_closed"] is None) == (row["measure"] != MEASURE)
    first, oracle = (np.mean(list(found[name][MEASURE].values())) for name in ("first_stage", "oracle"))
    row = pick(rows, "reranked")
    assert row["gap_closed"] == pytest.approx(row["delta"] / (oracle - first))


# --- parts


def test_a_part_is_the_comparison_on_its_queries(found: Standing) -> None:
    some = QUERIES[3:9]
    row = part(found, [*some, "elsewhere"], CONFIG, seed=13)
    assert row is not None
    pipeline, first = (
        {query_id: found[name][MEASURE][query_id] for query_id in some} for name in ("pipeline", "first_stage")
    )
    expected = compare(pipeline, first, resamples=300, seed=13)
    assert (row["queries"], row["delta"]) == (6, pytest.approx(expected.delta))
    assert (row["low"], row["high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert row["first_stage"] == pytest.approx(np.mean(list(first.values())))
    assert row["pipeline"] == pytest.approx(row["first_stage"] + row["delta"])


def test_the_whole_is_a_part(found: Standing, rows: list[Row]) -> None:
    whole = part(found, QUERIES, CONFIG, seed=13)
    assert whole is not None
    row = pick(rows, "pipeline")
    for name in ("queries", "wins", "losses", "p"):
        assert whole[name] == row[name]
    assert (whole["delta"], whole["low"]) == (pytest.approx(row["delta"]), pytest.approx(row["low"]))


def test_no_part_and_one_query(found: Standing) -> None:
    assert part(found, [], CONFIG, seed=13) is None
    assert part(found, ["elsewhere"], CONFIG, seed=13) is None
    one = part(found, QUERIES[:1], CONFIG, seed=13)
    assert one is not None
    assert (one["queries"], one["low"], one["high"]) == (1, None, None)


def test_what_is_kept_of_a_teachers_gain_is_measured_where_the_teacher_was() -> None:
    values = {
        "first_stage": {"a": 0.2, "b": 0.4, "c": 1.0},
        "teacher": {"a": 0.6, "b": 0.8},
        "reranked": {"a": 0.5, "b": 0.6, "c": 0.0},
        "pipeline": {"a": 1.0, "b": 1.0, "c": 1.0},
    }
    found: Standing = {name: {MEASURE: by_query} for name, by_query in values.items()}
    kept = gain_kept(found)
    assert kept is not None
    first, teacher, reranked = (0.2 + 0.4) / 2, (0.6 + 0.8) / 2, (0.5 + 0.6) / 2
    assert kept["queries"] == 2
    assert [kept[name] for name in ("first_stage", "teacher", "reranked")] == pytest.approx([first, teacher, reranked])
    assert kept["share"] == pytest.approx((reranked - first) / (teacher - first))
    # A teacher that gains nothing leaves nothing to keep.
    nothing = gain_kept({**found, "teacher": found["first_stage"]})
    assert nothing is not None
    assert nothing["share"] is None
    assert gain_kept({name: row for name, row in found.items() if name != "teacher"}) is None
