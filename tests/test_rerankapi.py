"""What rerank APIs are sent, and what is read from their answers; faulty ones are in test_remote.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.rerankapi import SIZES, Answer, Api, read_answer, request

from .test_remote import results

NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.permutations(range(6)), st.lists(NUMBERS, min_size=6))
def test_results_may_come_in_any_order(order: list[int], scores: list[float]) -> None:
    named = results(*((i, scores[i]) for i in order))
    bare = json.dumps([{"index": i, "score": scores[i]} for i in order]).encode()
    assert read_answer(named, 6) == read_answer(named, 6, "jina") == read_answer(bare, 6, "tei") == (scores[:6], 0, 0)


@pytest.mark.parametrize(
    "odd", [{"usage": 3, "meta": []}, {"usage": {"total_tokens": "7"}}, {"meta": {"billed_units": 1}}]
)
def test_charges_that_cannot_be_read_are_none(odd: dict[str, Any]) -> None:
    content = json.dumps({"results": [{"index": 0, "relevance_score": 0.5}], **odd}).encode()
    assert read_answer(content, 1) == ([0.5], 0, 0)


@pytest.mark.parametrize(
    ("api", "model", "expected"),
    [
        ("cohere", "m", {"query": "q", "documents": ["a", "b"], "top_n": 2, "model": "m"}),
        ("cohere", "", {"query": "q", "documents": ["a", "b"], "top_n": 2}),
        ("jina", "m", {"query": "q", "documents": ["a", "b"], "top_n": 2, "model": "m", "return_documents": False}),
        ("tei", "m", {"query": "q", "texts": ["a", "b"], "raw_scores": True, "truncate": True}),
    ],
)
def test_requests_have_the_shape_of_the_api(api: Api, model: str, expected: dict[str, Any]) -> None:
    assert request("q", ["a", "b"], model, api) == expected
    assert api in SIZES


def test_what_was_charged_is_read() -> None:
    body = json.loads(results((0, 0.5)))
    jina = json.dumps({**body, "usage": {"total_tokens": 7}}).encode()
    cohere = json.dumps({**body, "meta": {"billed_units": {"search_units": 1}}}).encode()
    assert read_answer(jina, 1, "jina") == Answer([0.5], tokens=7)
    assert read_answer(cohere, 1) == Answer([0.5], search_units=1)
