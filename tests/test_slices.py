"""Slices: every query has one value in each, and each value means what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.collection import Document, Documents
from secondstage.run import Ranking, Run, rank
from secondstage.serve.proof.slices import document_frequencies, margin, slices

AsDocuments = Callable[[Sequence[str]], Documents]
Answered = st.lists(st.one_of(st.none(), st.lists(st.floats(-5, 5, width=32), max_size=12)), min_size=1, max_size=20)


@pytest.fixture
def corpus(as_documents: AsDocuments) -> Documents:
    return as_documents(["bread and butter", "bread and jam", "Bread, a riddle"])


def ranking(scores: Sequence[float]) -> Ranking:
    return rank([f"d{i}" for i in range(len(scores))], scores, ["bm25"] * len(scores))


def run(margins: dict[str, float]) -> Run:
    """A run of the margins asked for: of three documents, the first scores 1 and the last 0."""
    return Run("first", {query_id: ranking([1, 1 - value, 0]) for query_id, value in margins.items()})


# --- the margin


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], 0),
        ([7], 0),
        ([7, 3], 1),
        ([4, 3, 2, 0], 0.25),
        ([-1, -2, -5], 0.25),
        ([1, 1, 0], 0),
        ([3, 3], 0),
        ([3] * 30, 0),
        ([0] * 10, 0),
        ([-1e-3] * 10, 0),
        # Only the top 10 count: rank 10 scores 1, rank 11 and further less.
        ([10, 9, 8, 7, 6, 5, 4, 3, 2, 1, -50, -100], 1 / 9),
    ],
)
def test_margin_in_closed_form(scores: list[float], expected: float) -> None:
    assert margin(ranking(scores)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("scores", [[3, 3, 0], [3, 3, -50], [1e-3, 1e-3, 1e-3, 0]])
def test_a_tie_that_the_run_parted_is_no_margin(scores: list[float]) -> None:
    tied = ranking(scores)
    assert tied.scores[0] > tied.scores[1]
    assert margin(tied) == 0


@given(
    st.lists(st.integers(-100, 100), min_size=2, max_size=15),
    st.sampled_from([0.5, 2.0, 64.0]),
    st.sampled_from([0.0, 8.0, -128.0]),
)
def test_the_margin_has_no_scale(scores: list[int], factor: float, shift: float) -> None:
    moved = [factor * score + shift for score in scores]
    assert margin(ranking(moved)) == pytest.approx(margin(ranking(scores)), abs=2e-4)
    assert 0 <= margin(ranking(scores)) <= 1


# --- the slices


def test_terciles(corpus: Documents) -> None:
    first = run({f"q{i}": i / 9 for i in (3, 8, 0, 5, 7, 1, 4, 2, 6)})
    found = slices({f"q{i}": "bread" for i in range(9)}, first, corpus, ())["first-stage margin"]
    assert found == {"unsure": ["q0", "q1", "q2"], "middling": ["q3", "q4", "q5"], "sure": ["q6", "q7", "q8"]}


def test_equal_margins_are_not_parted_and_short_lists_are_unsure(corpus: Documents) -> None:
    first = Run("first", {**run({"a": 0.2, "b": 0.9, "c": 0.9, "d": 0.9}), "none": ranking([]), "one": ranking([5])})
    queries = dict.fromkeys(["none", "one", "unanswered", "a", "b", "c", "d"], "bread")
    assert slices(queries, first, corpus, ())["first-stage margin"] == {
        "unsure": ["none", "one", "unanswered"],
        "middling": ["a", "b", "c", "d"],
    }


def test_query_length(corpus: Documents) -> None:
    queries = {f"q{n}": "bread " * n for n in (1, 3, 4, 7, 8, 15, 16, 40)}
    assert slices(queries, run({}), corpus, ()) == {
        "query length": {
            "1 to 3 words": ["q1", "q3"],
            "4 to 7 words": ["q4", "q7"],
            "8 to 15 words": ["q8", "q15"],
            "16 or more words": ["q16", "q40"],
        }
    }


def test_rare_words(corpus: Documents) -> None:
    queries = {
        "common": "BREAD and bread",
        "rare": "bread, butter!",
        "unknown": "bread, butter and cheese",
        "wordless": "?",
    }
    assert slices(queries, run({}), corpus, ())["rare words"] == {
        "a word not in the corpus": ["unknown", "wordless"],
        "a rare word": ["rare"],
        "common words": ["common"],
    }


def test_what_is_rare_grows_with_the_corpus(as_documents: AsDocuments) -> None:
    """Of 4,000 documents, 2 are 0.05 %."""
    texts = [f"bread {'butter' if i < 2 else ''} {'jam' if i < 3 else ''}" for i in range(4000)]
    found = slices({"two": "butter", "three": "jam", "all": "bread"}, run({}), as_documents(texts), ())
    assert found["rare words"] == {"a rare word": ["two"], "common words": ["three", "all"]}


def test_origin(corpus: Documents) -> None:
    queries = dict.fromkeys("abc", "bread")
    assert slices(queries, run({}), corpus, {"b", "else"}) == {"origin": {"human": ["a", "c"], "synthetic": ["b"]}}
    assert slices(queries, run({}), corpus, set(queries)) == {}
    assert slices(queries, run({}), corpus, set()) == {}


def test_no_query(corpus: Documents) -> None:
    assert slices({}, run({}), corpus, ()) == {}


@settings(max_examples=60, deadline=None)
@given(Answered, st.data())
def test_every_query_has_one_value_in_each_slice(lists: list[list[float] | None], data: st.DataObject) -> None:
    words = st.lists(st.sampled_from(["bread", "jam", "cheese", "?"]), min_size=1, max_size=20).map(" ".join)
    queries = {f"q{i}": data.draw(words) for i in range(len(lists))}
    answered = {f"q{i}": ranking(scores) for i, scores in enumerate(lists) if scores is not None}
    first = Run("first", answered)
    synthetic = data.draw(st.sets(st.sampled_from(list(queries))))
    found = slices(queries, first, CORPUS, synthetic)
    for groups in found.values():
        assert len(groups) > 1
        assert all(groups.values())
        assert sorted(i for query_ids in groups.values() for i in query_ids) == sorted(queries)
        assert all(query_ids == [i for i in queries if i in query_ids] for query_ids in groups.values())
    values = {i: value for value, ids in found.get("first-stage margin", {}).items() for i in ids}
    by_margin = {i: margin(first[i]) if i in first else 0.0 for i in values}
    assert len(set(zip(values.values(), by_margin.values(), strict=True))) == len(set(by_margin.values()))
    order = [("unsure", "middling", "sure").index(values[i]) for i in sorted(values, key=by_margin.__getitem__)]
    assert order == sorted(order)
    assert all(values[i] == "unsure" for i in values if i not in first or len(first[i].doc_ids) < 2)


# --- document frequencies


class Texts(Documents):
    """A corpus in memory, so that hypothesis needs no file."""

    def __init__(self, texts: Sequence[str], titles: Sequence[str] = ()) -> None:
        import pyarrow as pa

        ids = [f"d{i}" for i in range(len(texts))]
        columns = {"doc_id": ids, "title": titles or [""] * len(texts), "text": texts}
        self._table = pa.table({name: pa.array(column, pa.large_string()) for name, column in columns.items()})


CORPUS = Texts(["bread and butter", "bread and jam"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["Bread", "jam", "jam-jar", "café"])).map(", ".join), max_size=12))
def test_document_frequencies_against_a_count(texts: list[str]) -> None:
    words = ["bread", "jam", "jar", "café", "butter"]
    assert document_frequencies(Texts(texts), words) == {
        word: sum(word in text.casefold().replace("-", " ").replace(",", " ").split() for text in texts)
        for word in words
    }


def test_titles_count_and_a_document_counts_once() -> None:
    documents = Texts(["jam", "toast"], titles=["Jam jam", "Jam and butter"])
    assert document_frequencies(documents, ["jam", "butter", "toast"]) == {"jam": 2, "butter": 1, "toast": 1}


@pytest.mark.parametrize("limit", [1, 7, 100, 999])
def test_a_sample_is_scaled_up(limit: int) -> None:
    texts = [f"every {'half' if i % 1000 < 500 else ''}" for i in range(1000)]
    found = document_frequencies(Texts(texts), ["every", "half", "none"], limit)
    assert found["every"] == 1000
    assert found["none"] == 0
    assert found["half"] == pytest.approx(500, abs=1000 / limit)


def test_a_sample_is_spread_over_the_corpus_and_reads_no_more_than_the_limit() -> None:
    read: list[int] = []

    class Watched(Texts):
        def __getitem__(self, row: int) -> Document:
            read.append(row)
            return super().__getitem__(row)

    document_frequencies(Watched(["bread"] * 103), ["bread"], limit=10)
    assert len(set(read)) == len(read) == 10
    assert set(np.diff(read)) <= {10, 11}
