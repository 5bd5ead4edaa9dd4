"""Answers of generators: whatever stands around the queries, they are found; whatever else comes is survived."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.mine.synthesis.parse import LONGEST, MOST_WORDS, Parsed, clean, parse, query_id

A, B = "how is bread made", "why does dough rise?"


@pytest.mark.parametrize(
    "answer",
    [
        f"{A}\n{B}",
        f"\n\n  {A}  \n\n\n{B}\n",
        f"1. {A}\n2. {B}",
        f"1) {A}\n2) {B}",
        f"(1) {A}\n(2) {B}",
        f"1.{A}\n2.{B}",
        f"- {A}\n- {B}",
        f"* {A}\n* {B}",
        f"• {A}\n• {B}",
        f'"{A}"\n"{B}"',
        f'"{A}",\n"{B}"',
        f"“{A}”\n“{B}”",
        f"**{A}**\n**{B}**",
        f"1. **Question:** {A}\n2. **Question:** {B}",
        f"Query: {A}\nQuery: {B}",
        f'- Query 1: "{A}"\n- Query 2: "{B}"',
        f"Q1: {A}\nQ2: {B}",
        f"Here are 2 queries:\n\n{A}\n{B}",
        f"Sure! Here are two queries for this document.\n1. {A}\n2. {B}",
        f"```\n{A}\n{B}\n```",
        f"```text\n1. {A}\n2. {B}\n```\nLet me know if you need more.",
        json.dumps([A, B]),
        json.dumps({"queries": [A, B]}),
        json.dumps({"queries": [{"type": "question", "query": A}, {"type": "question", "query": B}]}),
        json.dumps({"first": A, "second": B}),
        json.dumps([{"question": A}, {"question": B}], indent=2),
        f"Here is the JSON:\n```json\n{json.dumps({'queries': [A, B]}, indent=1)}\n```\nDone.",
        f"{A}\r\n{B}\r\nand more",
        f"{json.dumps({'query': A, 'kind': 'question'})}\n{json.dumps({'query': B, 'kind': 'question'})}",
        f"Here they are:\n{json.dumps([A])}\n{json.dumps([B])}",
    ],
)
def test_two_queries_are_found(answer: str) -> None:
    assert parse(answer, 2) == [Parsed(A), Parsed(B)]


@pytest.mark.parametrize("answer", ["", "  \n ", "…", "---", "[]", "{}", "```\n```", '[""]', "1.", "\0", '""'])
def test_an_answer_without_a_query_is_an_empty_query(answer: str) -> None:
    assert parse(answer, 3) == [Parsed("", "empty")]


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "Sorry, I cannot do that.",
        "As an AI language model, I have no opinions.",
        "I cannot assist with this request.",
        "I'm unable to generate queries for this text",
        "Unfortunately, I can’t create such queries.",
    ],
)
def test_a_refusal_is_none_of_them(text: str) -> None:
    assert parse(text, 1) == [Parsed(text, "refusal")]


@pytest.mark.parametrize(
    "text",
    [
        "I can't log in to my bank",
        "sorry lyrics",
        "I am unable to sleep",
        "as an adult",
        "I can't create a new folder on my desktop, why?",
        "I cannot write to my USB stick",
        "I can't answer incoming calls",
    ],
)
def test_people_who_cannot_are_not_refusals(text: str) -> None:
    assert parse(text, 1) == [Parsed(text)]


def test_what_is_too_long_is_no_query() -> None:
    assert parse("a " * MOST_WORDS, 1)[0].fault == ""
    assert parse("a " * (MOST_WORDS + 1), 1)[0].fault == "too_long"
    (found,) = parse("b" * (LONGEST + 1), 1)
    assert found == Parsed("b" * LONGEST, "too_long")
    assert parse("字" * 2 * MOST_WORDS, 1)[0].fault == ""
    assert parse("字" * (2 * MOST_WORDS + 1), 1)[0].fault == "too_long"


@pytest.mark.parametrize(
    "text",
    [
        "3.5 inch disk",
        "12:30 train",
        "c++ -O2",
        "'tis the season",
        "why? because!",
        "{x} in LaTeX",
        "[PDF] annual report",
        '"Inception": release year',
        "a [b] c",
        "-1 error",
    ],
)
def test_what_belongs_to_a_query_stays(text: str) -> None:
    assert parse(text, 1) == [Parsed(text)]


@pytest.mark.parametrize(
    ("answer", "whole", "torn"),
    [
        ("one?\ntwo?\nHow does altitude change the boil", ["one?", "two?"], "How does altitude change the boil"),
        ("How does altitude", [], "How does altitude"),
        ('[\n  "one?",\n  "two?",\n  "thr', ["one?", "two?"], '"thr'),
        ('{\n  "queries": [\n    "one?",\n    "tw', ["one?"], '"tw'),
    ],
)
def test_what_was_cut_off_is_torn_and_what_stands_before_it_is_not(answer: str, whole: list[str], torn: str) -> None:
    assert parse(answer, 3, cut=True) == [*map(Parsed, whole), Parsed(torn, "torn")]
    assert parse(answer, 3) == [*map(Parsed, whole), Parsed(torn)]
    assert parse("", 3, cut=True) == [Parsed("", "empty")]


def test_of_an_answer_that_was_cut_off_and_holds_more_than_was_asked_for_all_is_torn() -> None:
    """A thought that never ended."""
    thought = "First, I read the document.\nIt is about bread.\nThe user wants"
    assert [found.fault for found in parse(thought, 2, cut=True)] == ["torn", "torn"]
    assert [found.fault for found in parse(thought, 2)] == ["", ""]


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(
    "answer", ['["a b c", "trunc', '[{"query": "one?"}, {"query": "tw', "{'query': 'one?'}", '"query": "one?", "ki']
)
def test_what_looks_like_json_and_is_none_is_torn(answer: str, cut: bool) -> None:
    assert parse(answer, 3, cut=cut) == [Parsed(answer, "torn")]


def test_half_a_surrogate_pair_and_control_characters_are_taken_out() -> None:
    assert parse('["a\\ud800b\\u0000c"]', 1) == [Parsed("a b c")]


plain = st.text(st.sampled_from("abcdeéñ字線ب "), min_size=1, max_size=60).map(lambda t: " ".join(t.split()))
plain = plain.filter(lambda text: text and clean(text) == text)
styles = st.sampled_from(["{}", "{i}. {}", "- {}", '"{}"', "Query {i}: {}", "* **{}**", "{i}) “{}”"])


@given(queries=st.lists(plain, min_size=1, max_size=5), style=styles)
def test_every_style_gives_the_queries_back(queries: list[str], style: str) -> None:
    answer = "\n".join(style.format(query, i=i) for i, query in enumerate(queries, 1))
    assert [found.text for found in parse(answer, len(queries))] == queries
    assert [found.text for found in parse(json.dumps({"queries": queries}), len(queries))] == queries


@given(
    answer=st.text(st.sampled_from('ab \n"`*[]{}:,.1-<think>\\/“”\ud800\x00é字'), max_size=200) | st.text(),
    count=st.integers(1, 4),
    cut=st.booleans(),
)
def test_anything_is_survived(answer: str, count: int, cut: bool) -> None:
    found = parse(answer, count, cut=cut)
    assert 1 <= len(found) <= count
    for text, fault in found:
        assert len(text) <= LONGEST
        assert text == " ".join(text.split())
        text.encode()
        assert bool(text) == (fault != "empty")


def test_deep_json_is_survived() -> None:
    assert parse("[" * 100_000 + "]" * 100_000, 1) == [Parsed("", "empty")]


def test_an_id_hangs_on_document_kind_number_and_text() -> None:
    ids = {
        query_id(*parts) for parts in (("d", "k", 0, "t"), ("e", "k", 0, "t"), ("d", "l", 0, "t"), ("d", "k", 1, "t"))
    }
    assert len(ids) == 4
    assert query_id("d", "k", 0, "t") in ids
    assert all(found.startswith("synthetic-") and len(found) == 26 for found in ids)
