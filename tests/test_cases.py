"""Single queries: the picked differences, the largest losses, and one line a query in the table."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.collection import Documents, Qrels
from secondstage.leakage import Leak
from secondstage.run import Run, rank
from secondstage.serve.cascade import Runs
from secondstage.serve.proof.cases import CHARACTERS, differences, quantiles, worst, write_per_query
from secondstage.serve.proof.queries import QuerySet
from secondstage.serve.proof.standing import Standing

AsDocuments = Callable[[Sequence[str]], Documents]
MEASURE = "nDCG@10"


def query_set(queries: Mapping[str, str], qrels: Qrels | None = None, leaks: Sequence[Leak] = ()) -> QuerySet:
    return QuerySet("test", queries, qrels or {}, frozenset(), list(leaks), (), [])


def values(**systems: Mapping[str, float]) -> Standing:
    return {name: {MEASURE: dict(by_query)} for name, by_query in systems.items()}


# --- differences


def test_the_difference_is_pipeline_minus_first_stage() -> None:
    found = values(first_stage={"a": 0.5, "b": 0.25}, pipeline={"b": 1.0, "a": 0.0, "c": 1.0})
    assert differences(found) == {"a": -0.5, "b": 0.75}


@pytest.mark.parametrize("count", [400, 10, 2])
def test_the_extremes_are_always_picked(count: int) -> None:
    found = quantiles([i % 997 / 997 for i in range(0, 7000, 3)] + [-1.0, 2.0], count)
    assert len(found) == count
    assert (found[0], found[-1]) == (2.0, -1.0)


@given(st.lists(st.floats(-1, 1), max_size=60), st.integers(2, 40))
def test_some_of_the_values_falling(given_values: list[float], count: int) -> None:
    found = quantiles(given_values, count)
    assert found == sorted(found, reverse=True)
    assert len(found) == min(count, len(given_values))
    left = sorted(given_values, reverse=True)
    for value in found:  # none is picked more often than it is there
        left.remove(value)
    if given_values:
        assert (found[0], found[-1]) == (max(given_values), min(given_values))


def test_the_picked_are_spread_evenly() -> None:
    assert quantiles(list(range(101)), 5) == [100, 75, 50, 25, 0]


# --- the largest losses

LISTS = {
    "first_stage": {"lost": ("d0", "d1", "d2", "d3"), "less": ("d1", "d0"), "won": ("d2", "d0"), "same": ("d0",)},
    "reranked": {"lost": ("d3", "d2", "d1", "d0"), "less": ("d0", "d1"), "won": ("d0", "d2"), "same": ("d0",)},
    "pipeline": {"lost": ("d3", "d1", "d2", "d0"), "less": ("d0", "d1"), "won": ("d0", "d2"), "same": ("d0",)},
}
SCORES = (4.5, 3.5, 2.5, -1.5)
QUERIES = {"same": "a", "less": "b", "lost": "who?", "won": "d"}
QRELS: Qrels = {
    "lost": {"d4": 1, "d0": 2, "d1": 0, "elsewhere": 1, "d2": 1},
    "less": {"elsewhere": 2, "d1": 1},
    "won": {"d0": 1},
    "same": {"d0": 1},
}
STANDING = values(
    first_stage={"same": 0.5, "less": 1.0, "lost": 1.0, "won": 0.2},
    pipeline={"same": 0.5, "less": 0.9, "lost": 0.25, "won": 1.0},
)


@pytest.fixture
def runs() -> Runs:
    return Runs(
        *(
            Run(name, {q: rank(ids, SCORES[: len(ids)], ["bm25"] * len(ids)) for q, ids in lists.items()})
            for name, lists in LISTS.items()
        )
    )


@pytest.fixture
def documents(as_documents: AsDocuments) -> Documents:
    return as_documents(["x" * CHARACTERS, "x" * (CHARACTERS + 1), "two", "three", "four"])


def test_only_losses_worst_first(runs: Runs, documents: Documents) -> None:
    found = worst(query_set(QUERIES, QRELS), runs, STANDING, {"lost": "reranker_error"}, documents)
    assert [(case["query_id"], case["query"], case["cause"]) for case in found] == [
        ("lost", "who?", "reranker_error"),
        ("less", "b", None),
    ]
    assert [(case["first_stage"], case["pipeline"], case["delta"]) for case in found] == [
        (1.0, 0.25, -0.75),
        (1.0, 0.9, pytest.approx(-0.1)),
    ]
    assert [case["query_id"] for case in worst(query_set(QUERIES, QRELS), runs, STANDING, {}, documents, 1)] == ["lost"]


def test_what_stood_and_what_stands_at_the_top(runs: Runs, documents: Documents) -> None:
    case = worst(query_set(QUERIES, QRELS), runs, STANDING, {}, documents)[0]
    assert [doc["doc_id"] for doc in case["before"]] == ["d0", "d1", "d2"]
    assert [doc["doc_id"] for doc in case["after"]] == ["d3", "d1", "d2"]
    assert [doc["doc_id"] for doc in case["relevant"]] == ["d0", "d4"]  # the most relevant first
    assert case["before"][0] == {
        "doc_id": "d0",
        "title": "",
        "text": "x" * CHARACTERS,
        "relevance": 2,
        "first_stage_rank": 1,
        "pipeline_rank": 4,
        "first_stage_score": 4.5,
        "reranker_score": -1.5,
    }
    assert case["before"][0] == case["relevant"][0]


def test_what_the_corpus_lacks_cannot_be_shown(runs: Runs, documents: Documents) -> None:
    case = worst(query_set(QUERIES, QRELS), runs, STANDING, {}, documents)[1]
    assert (case["query_id"], [doc["doc_id"] for doc in case["relevant"]]) == ("less", ["d1"])


def test_what_is_not_judged_or_no_candidate_is_told_from_what_is(runs: Runs, documents: Documents) -> None:
    case = worst(query_set(QUERIES, QRELS), runs, STANDING, {}, documents)[0]
    unjudged, irrelevant = case["after"][0], case["after"][1]
    assert (unjudged["doc_id"], unjudged["relevance"]) == ("d3", None)
    assert (irrelevant["doc_id"], irrelevant["relevance"]) == ("d1", 0)
    missed = case["relevant"][1]
    assert (missed["doc_id"], missed["relevance"]) == ("d4", 1)
    ranks = ("first_stage_rank", "pipeline_rank", "first_stage_score", "reranker_score")
    assert [missed[name] for name in ranks] == [None] * 4
    assert irrelevant["text"] == "x" * (CHARACTERS - 1) + "…"


# --- the table


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True))


def test_one_line_a_query_and_test_set(tmp_path: Path) -> None:
    leaks = [
        Leak("less", "same_text", "train", "t1", 1.0),
        Leak("won", "document", "dev", "d9", 1.0),
        Leak("less", "document", "train", "d1", 1.0),
    ]
    sampled: Standing = {**STANDING, "teacher": {MEASURE: {"won": 1.0, "less": 1 / 3}}}
    first = query_set(QUERIES, QRELS, leaks)
    second = query_set({"other": "z"})._replace(split="human")
    other = values(first_stage={"other": 0.0}, pipeline={"other": 1.0}, dense={"other": 0.5})
    parts = {"origin": {"human": ["same", "won"], "synthetic": ["lost", "less"]}, "mine": {"in it": ["won"]}}
    write_per_query(tmp_path / "table.tsv", [(first, sampled, parts), (second, other, {"words": {"few": ["other"]}})])
    rows = read(tmp_path / "table.tsv")
    assert list(rows[0]) == [
        *("split", "query_id", "first_stage nDCG@10", "pipeline nDCG@10", "teacher nDCG@10", "dense nDCG@10"),
        *("difference", "leaks", "origin", "mine", "words", "query"),
    ]
    assert [(row["split"], row["query_id"]) for row in rows] == [
        *(("test", query_id) for query_id in QUERIES),
        ("human", "other"),
    ]
    by_id = {row["query_id"]: row for row in rows}
    assert list(by_id["less"].values()) == [
        *("test", "less", "1.000000", "0.900000", "0.333333", "", "-0.100000"),
        *("same_text:train:t1 document:train:d1", "synthetic", "", "", "b"),
    ]
    assert [row["teacher nDCG@10"] for row in rows] == ["", "0.333333", "", "1.000000", ""]
    assert [row["dense nDCG@10"] for row in rows] == ["", "", "", "", "0.500000"]
    assert [row["mine"] for row in rows] == ["", "", "", "in it", ""]
    assert [row["words"] for row in rows] == ["", "", "", "", "few"]
    assert [row["difference"] for row in rows] == ["0.000000", "-0.100000", "-0.750000", "0.800000", "1.000000"]
    assert by_id["other"]["leaks"] == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tab\tand\nbreak\r\n", "tab and break"),
        ("\u2028 line  \x85 and \x1c others \x0b", "line and others"),
        ('"quoted', '"quoted'),
        ("Größe 😀", "Größe 😀"),
    ],
)
def test_a_text_is_one_cell_of_one_line(tmp_path: Path, text: str, shown: str) -> None:
    found = values(first_stage={"a": 0.0, "b": 1.0}, pipeline={"a": 1.0, "b": 1.0})
    write_per_query(tmp_path / "table.tsv", [(query_set({"a": text, "b": "plain"}), found, {})])
    assert [row["query"] for row in read(tmp_path / "table.tsv")] == [shown, "plain"]
    assert len((tmp_path / "table.tsv").read_text(encoding="utf-8").splitlines()) == 3
