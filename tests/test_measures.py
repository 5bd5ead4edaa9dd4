"""Measures against ir_measures, against arithmetic, and through the files that others read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import log2
from pathlib import Path
from typing import Any

import ir_measures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage import firststage
from secondstage.collection import Collection, Qrels
from secondstage.config import FirstStageConfig
from secondstage.errors import UserError
from secondstage.firststage import search_run
from secondstage.measures import DEFAULT, Values, evaluate, mean
from secondstage.run import Run, rank, read_trec

CRANFIELD = Path(__file__).parents[2] / "shared" / "data" / "cranfield"
CUTOFFS = (1, 3, 10, 1000)
read_others: Any = ir_measures.read_trec_run
KNOWN = ("nDCG", "RR", "R", "AP", "Success", "Judged")
MEASURES = tuple(f"{name}@{cutoff}" for name in KNOWN for cutoff in CUTOFFS)
QUERY_IDS, DOC_IDS = [f"q{i}" for i in range(5)], [f"d{i}" for i in range(15)]

lists = st.lists(
    st.tuples(st.sampled_from(DOC_IDS), st.sampled_from([-2.5, 0.0, 0.1, 1.0, 1e6])), unique_by=lambda t: t[0]
)
runs = st.dictionaries(st.sampled_from(QUERY_IDS), lists)
# Not below zero, where pytrec_eval crashes now and then: closed forms cover those.
graded_qrels = st.dictionaries(
    st.sampled_from(QUERY_IDS), st.dictionaries(st.sampled_from(DOC_IDS), st.integers(0, 4), min_size=1), min_size=1
)


def as_run(found: Mapping[str, Iterable[tuple[str, float]]]) -> Run:
    rankings = {}
    for query_id, hits in found.items():
        doc_ids, scores = [doc_id for doc_id, _ in hits], [score for _, score in hits]
        rankings[query_id] = rank(doc_ids, scores, ["fake"] * len(doc_ids))
    return Run("fake", rankings)


def in_order(doc_ids: Iterable[str]) -> Run:
    """A run of one query, "q", with these documents."""
    return as_run({"q": [(doc_id, -float(i)) for i, doc_id in enumerate(doc_ids)]})


def as_others_see_it(run: Any, qrels: Qrels, measures: Iterable[str] = MEASURES) -> dict[str, Values]:
    """What ir_measures says, for the queries that have a relevant document; of an empty list, that all is 0."""
    positive = {query_id for query_id, judged in qrels.items() if any(r > 0 for r in judged.values())}
    values: dict[str, Values] = {name: {} for name in measures}
    for metric in ir_measures.iter_calc([ir_measures.parse_measure(name) for name in values], qrels, run):
        if metric.query_id in positive:
            values[str(metric.measure)][metric.query_id] = metric.value
    return values


def assert_same(ours: dict[str, Values], theirs: dict[str, Values]) -> None:
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        assert values == pytest.approx(theirs[name], abs=1e-9), name


def scored_docs(run: Run) -> list[Any]:
    return [
        ir_measures.ScoredDoc(query_id, doc_id, float(score))
        for query_id, ranking in run.items()
        for doc_id, score in zip(ranking.doc_ids, ranking.scores, strict=True)
    ]


@settings(max_examples=150, deadline=None)
@given(runs, graded_qrels)
def test_every_value_equals_that_of_ir_measures(found: dict[str, list[tuple[str, float]]], qrels: Qrels) -> None:
    run = as_run(found)
    assert_same(evaluate(run, qrels, MEASURES), as_others_see_it(scored_docs(run), qrels))


@settings(max_examples=60, deadline=None)
@given(runs, graded_qrels)
def test_the_file_that_others_read_scores_the_same(
    tmp_path_factory: pytest.TempPathFactory, found: dict[str, list[tuple[str, float]]], qrels: Qrels
) -> None:
    run, path = as_run(found), tmp_path_factory.mktemp("trec") / "run.trec"
    run.write_trec(path)
    ours = evaluate(run, qrels, MEASURES)
    assert_same(ours, as_others_see_it(list(read_others(str(path))), qrels))
    assert evaluate(read_trec(path), qrels, MEASURES) == ours


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(QUERY_IDS),
        # The last two differ in double precision only: trec_eval, which reads single precision, sees a tie.
        st.dictionaries(st.sampled_from(DOC_IDS), st.sampled_from([0.0, 2.0, 16777216.0, 16777217.0]), min_size=1),
    ),
    graded_qrels,
)
def test_ties_in_a_file_of_others_are_ordered_as_trec_eval_does(
    tmp_path_factory: pytest.TempPathFactory, found: dict[str, dict[str, float]], qrels: Qrels
) -> None:
    path = tmp_path_factory.mktemp("trec") / "theirs.trec"
    lines = [f"{q} Q0 {d} 1 {score!r} theirs\n" for q, scores in found.items() for d, score in scores.items()]
    path.write_text("".join(lines), encoding="utf-8")
    # Ties across the cutoff are trec_eval's alone to order; others order those of RR@k and Judged@k in another way.
    measures = ("nDCG@3", "R@3", "AP@3", "Success@3", "Judged@1000")
    theirs = as_others_see_it(list(read_others(str(path))), qrels, (*measures, "RR"))
    theirs["RR@1000"] = theirs.pop("RR")
    assert_same(evaluate(read_trec(path), qrels, (*measures, "RR@1000")), theirs)


@pytest.mark.parametrize(
    ("ranked", "judged", "measure", "expected"),
    [
        # graded gains, a missed positive in the ideal
        ("abc", {"a": 3, "c": 2, "x": 1}, "nDCG@10", (3 + 2 / log2(4)) / (3 + 2 / log2(3) + 1 / log2(4))),
        ("xa", {"a": 1, "b": 1}, "nDCG@10", (1 / log2(3)) / (1 + 1 / log2(3))),
        ("ab", {"b": 4, "a": 1}, "nDCG@10", (1 + 4 / log2(3)) / (4 + 1 / log2(3))),
        # the cutoff bounds the ideal, too
        ("ab", {"a": 1, "b": 1, "c": 1}, "nDCG@2", 1.0),
        ("xyab", {"a": 1, "b": 1}, "nDCG@3", (1 / log2(4)) / (1 + 1 / log2(3))),
        ("xya", {"a": 2}, "RR@10", 1 / 3),
        ("xya", {"a": 2}, "RR@2", 0.0),
        ("ab", {"a": 1, "b": 3}, "RR@10", 1.0),
        ("axb", {"a": 1, "b": 2, "c": 1, "d": 1}, "R@10", 2 / 4),
        ("axb", {"a": 1, "b": 2, "c": 1, "d": 1}, "R@2", 1 / 4),
        # precision at ranks 1 and 3, over all four relevant documents; the cutoff bounds the ranks alone
        ("axb", {"a": 1, "b": 2, "c": 1, "d": 1}, "AP@10", (1 + 2 / 3) / 4),
        ("axb", {"a": 1, "b": 2, "c": 1, "d": 1}, "AP@2", 1 / 4),
        ("xyab", {"a": 1, "b": 1}, "AP@100", (1 / 3 + 2 / 4) / 2),
        ("ab", {"a": 1, "b": 4}, "AP@2", 1.0),
        ("xya", {"a": 2}, "Success@3", 1.0),
        ("xya", {"a": 2}, "Success@2", 0.0),
        ("ab", {"a": 1, "b": 1}, "Success@10", 1.0),
        # judged are also those that are not relevant; a list shorter than the cutoff is a list of its length
        ("axb", {"a": 1, "b": 0, "c": 1}, "Judged@3", 2 / 3),
        ("axb", {"a": 1, "b": 0, "c": 1}, "Judged@1000", 2 / 3),
        ("axb", {"a": 1, "b": 0, "c": 1}, "Judged@2", 1 / 2),
        ("axb", {"a": 1, "x": -2}, "Judged@2", 1.0),
        ("xyz", {"a": 1}, "Judged@2", 0.0),
        # judged as not relevant, unjudged, or judged below zero: no gain
        ("abc", {"a": 0, "c": 1}, "nDCG@10", 1 / log2(4)),
        ("abc", {"a": -2, "c": 1}, "nDCG@10", 1 / log2(4)),
        ("ac", {"a": -1, "c": 1}, "RR@10", 1 / 2),
        ("ac", {"a": -1, "c": 1}, "R@10", 1 / 1),
        ("ac", {"a": -1, "c": 1}, "AP@10", 1 / 2),
        ("abc", {"a": 0, "c": 1}, "AP@10", 1 / 3),
        ("ac", {"a": -1, "c": 1}, "Success@1", 0.0),
        # nothing found
        ("", {"a": 1}, "nDCG@10", 0.0),
        ("", {"a": 1}, "RR@10", 0.0),
        ("", {"a": 1}, "R@10", 0.0),
        ("", {"a": 1}, "AP@10", 0.0),
        ("", {"a": 1}, "Success@10", 0.0),
        ("", {"a": 1}, "Judged@10", 0.0),
        ("xyz", {"a": 1}, "AP@10", 0.0),
        ("xyz", {"a": 1}, "nDCG@10", 0.0),
        # far more ranks than documents
        ("xa", {"a": 1}, "nDCG@100000", 1 / log2(3)),
    ],
)
def test_closed_forms(ranked: str, judged: dict[str, int], measure: str, expected: float) -> None:
    assert evaluate(in_order(ranked), {"q": judged}, [measure]) == {measure: {"q": pytest.approx(expected, abs=1e-12)}}


def test_a_query_that_the_run_does_not_answer_scores_zero_and_one_without_a_positive_is_left_out() -> None:
    qrels = {"q": {"a": 1}, "unanswered": {"a": 1}, "hopeless": {"a": 0}, "unjudged": {}}
    assert evaluate(in_order("a"), qrels, ["RR@10"]) == {"RR@10": {"q": 1.0, "unanswered": 0.0}}
    assert evaluate(in_order("a"), {"other": {"a": 1}}, ["R@1"]) == {"R@1": {"other": 0.0}}
    assert evaluate(in_order("a"), {}, ["R@1", "RR@1"]) == {"R@1": {}, "RR@1": {}}


def test_an_identity_or_constant_reranker_does_not_lift_the_value() -> None:
    """sentence-transformers' evaluator gives an identity reranker five points, as missed positives leave its ideal."""
    run, qrels = in_order("xaybz"), {"q": {"a": 1, "b": 2, "missed": 3}}
    before = evaluate(run, qrels, MEASURES)
    scores = [score for ranking in run.values() for score in ranking.scores]
    assert evaluate(run.rescored("identity", scores), qrels, MEASURES) == before
    assert evaluate(run.rescored("constant", [0.5] * len(scores)), qrels, MEASURES) == before
    assert before["RR@10"]["q"] == 1 / 2  # ms-swift gives a constant scorer 1.0


def test_the_perfect_order_of_all_positives_and_only_it_scores_one() -> None:
    judged = {"a": 3, "b": 2, "c": 2, "d": 1, "x": 0}
    for perfect in ("abcd", "acbd", "abcdx"):
        assert evaluate(in_order(perfect), {"q": judged}, ["nDCG@10"])["nDCG@10"]["q"] == pytest.approx(1.0, abs=1e-12)
    for flawed in ("abdc", "abc", "xabcd", "bacd"):
        assert evaluate(in_order(flawed), {"q": judged}, ["nDCG@10"])["nDCG@10"]["q"] < 1 - 1e-3


@pytest.mark.parametrize(
    "name",
    ["nDCG", "nDCG@", "nDCG@0", "nDCG@-1", "nDCG@05", "nDCG@1.5", "ndcg@10", "MAP@10", "@10", "", "RR@10 ", "R@5\n"],
)
def test_an_unknown_measure_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UserError) as caught:
        evaluate(in_order("a"), {"q": {"a": 1}}, ["nDCG@10", name])
    assert str(caught.value) == f"unknown measure {name!r}: known are nDCG@k, RR@k, R@k, AP@k, Success@k, Judged@k"


@settings(max_examples=60, deadline=None)
@given(runs, graded_qrels)
def test_measures_agree_with_each_other(found: dict[str, list[tuple[str, float]]], qrels: Qrels) -> None:
    at = {name: evaluate(as_run(found), qrels, [f"{name}@{cutoff}" for cutoff in CUTOFFS]) for name in KNOWN}
    for query_id in at["R"]["R@1"]:
        for shallow, deep in pairwise(CUTOFFS):
            for name in ("RR", "R", "AP", "Success"):
                assert at[name][f"{name}@{shallow}"][query_id] <= at[name][f"{name}@{deep}"][query_id]
        for cutoff in CUTOFFS:
            by_name = {name: at[name][f"{name}@{cutoff}"][query_id] for name in KNOWN}
            assert all(0 <= value <= 1 + 1e-12 for value in by_name.values())
            assert by_name["AP"] <= by_name["R"] + 1e-12
            assert len({by_name[name] > 0 for name in ("nDCG", "RR", "R", "AP", "Success")}) == 1
            assert by_name["RR"] <= by_name["Success"] in (0, 1)
            # What nobody judged is not relevant.
            assert by_name["Judged"] > 0 or by_name["Success"] == 0


def test_the_mean_over_queries() -> None:
    assert mean({"a": 0.5, "b": 0.25, "c": 0.0}) == pytest.approx((0.5 + 0.25) / 3)
    assert mean({}) == 0.0


def test_measures_may_come_from_an_iterator_and_have_defaults() -> None:
    qrels = {"q": {"b": 1}}
    assert evaluate(in_order("ab"), qrels, iter(["RR@5"])) == {"RR@5": {"q": 0.5}}
    assert tuple(evaluate(in_order("ab"), qrels)) == DEFAULT == ("nDCG@10", "RR@10", "R@50")


@pytest.mark.skipif(not CRANFIELD.is_dir(), reason="the Cranfield collection is not on this machine (../shared/data)")
def test_bm25_on_cranfield_scores_as_ir_measures_says(tmp_path: Path) -> None:
    # Two of its documents are empty.
    collection = Collection.read(CRANFIELD, tmp_path / "cranfield", drop_invalid=True, dev_share=0.0)
    bm25 = firststage.build(FirstStageConfig(kind="bm25"), collection.documents)
    qrels = collection.split("test") | collection.split("train")
    run = search_run(bm25, collection.documents.ids, {q: collection.queries[q] for q in qrels}, 100)
    path = tmp_path / "bm25.trec"
    run.write_trec(path)
    assert max(relevance for judged in qrels.values() for relevance in judged.values()) > 1
    ours = evaluate(run, qrels, MEASURES)
    assert_same(ours, as_others_see_it(list(read_others(str(path))), qrels))
    assert len(ours["nDCG@10"]) == 45 + 158
    # BM25 on Cranfield is about 0.4 everywhere: grades read the wrong way round, or a broken index, are far from it.
    assert 0.35 < mean(ours["nDCG@10"]) < 0.55
