"""Leaks in the proof: counted, shown with the texts of both queries, and figures on the rest."""

from __future__ import annotations

import pytest

from secondstage.config import EvaluateConfig
from secondstage.leakage import Leak
from secondstage.serve.proof.leaks import EXAMPLES, leakage
from secondstage.serve.proof.queries import QuerySet

QUERIES = {f"q{i}": f"text {i}" for i in range(20)}
CONFIG = EvaluateConfig(resamples=100)
# The pipeline gains one in every query that training met, nothing elsewhere.
MET = [f"q{i}" for i in range(8)]
VALUES = {
    "first_stage": {"nDCG@10": dict.fromkeys(QUERIES, 0.0)},
    "pipeline": {"nDCG@10": {query_id: float(query_id in MET) for query_id in QUERIES}},
}


def a_set(*leaks: Leak) -> QuerySet:
    qrels = {query_id: {"d": 1} for query_id in QUERIES}
    return QuerySet("test", QUERIES, qrels, frozenset(), list(leaks), ("train",), [])


def test_the_figures_of_the_rest_have_no_leak() -> None:
    by_text = [Leak(query_id, "same_text", "train", "synthetic-1", 1.0) for query_id in MET[:6]]
    by_document = [Leak(query_id, "document", "train", "d", 1.0) for query_id in MET[4:]]
    found = leakage(a_set(*by_text, *by_document), VALUES, {"synthetic-1": "made"}, CONFIG, seed=1)
    assert found["counts"] == {"same_text": 6, "near_duplicate": 0, "document": 4, "any": 8}
    assert found["free_of"] == {"queries": 14, "documents": 12}
    assert found["free"]["delta"] == 0
    assert found["free_of_text"]["delta"] == pytest.approx(2 / 14)
    assert [(e["kind"], e["query"], e["other"]) for e in found["examples"]] == [
        *(("same_text", QUERIES[query_id], "made") for query_id in MET[:EXAMPLES]),
        *(("document", QUERIES[query_id], "") for query_id in MET[4:]),
    ]


def test_where_all_is_given_away_there_is_no_rest() -> None:
    found = leakage(
        a_set(*(Leak(query_id, "document", "dev", "d", 1.0) for query_id in QUERIES)), VALUES, {}, CONFIG, seed=1
    )
    assert (found["free"], found["free_of"]["documents"]) == (None, 0)
    assert found["free_of_text"]["queries"] == 20
