"""The formats of other toolkits: rows as those expect them, and back; bad rows are told in words."""

from __future__ import annotations

from typing import Any

import pytest

from secondstage.exchange.formats import FORMATS, Passage, TextList, from_row, to_rows

POSITIVES = (Passage("best", 2, 3.5), Passage("good", 1, 2.0))
NEGATIVES = (Passage("bad", 0, -1.0), Passage("worse", 0, -2.5), Passage("worst", 0, -9.0))
LIST = TextList("question", POSITIVES, NEGATIVES)


def test_bge_has_one_row_a_list() -> None:
    plain = {"query": "question", "pos": ["best", "good"], "neg": ["bad", "worse", "worst"]}
    assert to_rows(LIST, "bge") == [plain]
    scores = {"pos_scores": [3.5, 2.0], "neg_scores": [-1.0, -2.5, -9.0]}
    assert to_rows(LIST, "bge", scores=True) == [plain | scores]


def test_a_labeled_list_holds_all_positives_with_their_grades() -> None:
    docs = {"query": "question", "docs": ["best", "good", "bad", "worse", "worst"]}
    assert to_rows(LIST, "labeled-list") == [docs | {"labels": [2, 1, 0, 0, 0]}]
    assert to_rows(LIST, "labeled-list", scores=True) == [docs | {"scores": [3.5, 2.0, -1.0, -2.5, -9.0]}]


def test_triplets_are_all_pairs_of_a_positive_and_a_negative() -> None:
    rows = to_rows(LIST, "triplet", scores=True)
    assert len(rows) == 2 * 3
    assert {(row["positive"], row["negative"]) for row in rows} == {
        (positive.text, negative.text) for positive in POSITIVES for negative in NEGATIVES
    }
    assert list(rows[0]) == ["query", "positive", "negative", "scores"]
    assert rows[0]["scores"] == [3.5, -1.0]
    assert to_rows(LIST, "triplet")[5] == {"query": "question", "positive": "good", "negative": "worst"}


def test_n_tuples_have_as_many_negatives_as_asked_or_are_none() -> None:
    expected = {"query": "question", "positive": "good", "negative_1": "bad", "negative_2": "worse"}
    rows = to_rows(LIST, "n-tuple", negatives=2)
    assert len(rows) == 2
    assert rows[1] == expected
    assert list(rows[1]) == list(expected)
    assert to_rows(LIST, "n-tuple", negatives=2, scores=True)[0]["scores"] == [3.5, -1.0, -2.5]
    assert to_rows(LIST, "n-tuple", negatives=4) == []


def flat(found: TextList) -> TextList:
    """Without what all formats but a labeled-list lose: the grades."""
    return TextList(found.query, tuple(p._replace(relevance=1) for p in found.positives), found.negatives)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("scores", [False, True])
def test_what_was_written_is_read(form: str, scores: bool) -> None:
    rows = to_rows(LIST, form, scores=scores, negatives=3)
    if form == "labeled-list" and scores:
        rows = [row | {"labels": [1, 1, 0, 0, 0]} for row in rows]
    found = [from_row(row, form) for row in rows]
    assert {item.query for item in found} == {"question"}
    positives = dict.fromkeys(passage for item in found for passage in item.positives)
    negatives = dict.fromkeys(passage for item in found for passage in item.negatives)
    expected = LIST if form == "labeled-list" and not scores else flat(LIST)
    for got, sent in ((positives, expected.positives), (negatives, expected.negatives)):
        assert list(got) == (list(sent) if scores else [passage._replace(score=None) for passage in sent])


def test_columns_are_taken_by_their_order_as_sentence_transformers_does() -> None:
    row = {"anchor": "q", "answer": "p", "hard": "n", "label": None}
    assert from_row(row, "triplet") == TextList("q", (Passage("p", 1),), (Passage("n", 0),))
    ragged = {"anchor": "q", "answer": "p", "n1": "n", "n2": None}
    assert from_row(ragged, "n-tuple") == TextList("q", (Passage("p", 1),), (Passage("n", 0),))
    listed = {"question": "q", "answers": ["a", "b"], "label": [0.0, 1.0]}
    assert from_row(listed, "labeled-list") == TextList("q", (Passage("b", 1),), (Passage("a", 0),))


def test_negatives_may_be_missing_in_bge() -> None:
    assert from_row({"query": "q", "pos": ["p"]}, "bge") == TextList("q", (Passage("p", 1),), ())
    assert from_row({"query": "q", "pos": ["p"], "neg": [], "prompt": "x"}, "bge").negatives == ()


@pytest.mark.parametrize(
    ("form", "row", "message"),
    [
        ("bge", {"pos": ["p"], "neg": []}, "no 'query'"),
        ("bge", {"query": "q", "neg": []}, "no 'pos'"),
        ("bge", {"query": "q", "pos": "p"}, "'pos' must be a list, not 'p'"),
        ("bge", {"query": "q", "pos": [""]}, "'pos' holds an empty text"),
        ("bge", {"query": "q", "pos": ["p", 3]}, "'pos' must hold texts, not 3"),
        ("bge", {"query": "q", "pos": ["\ud800"]}, "'pos' holds half a surrogate pair"),
        ("bge", {"query": "q", "pos": ["p"], "pos_scores": [1, 2]}, "one number for each of 1 documents"),
        ("bge", {"query": "q", "pos": ["p"], "pos_scores": ["1"]}, "holds '1', which is no finite number"),
        ("bge", {"query": "q", "pos": ["p"], "pos_scores": [float("nan")]}, "which is no finite number"),
        ("bge", {"query": "q", "pos": ["p"], "pos_scores": [1e39]}, r"1e\+39, which is no finite number in single"),
        ("labeled-list", {"q": "q", "d": ["p"], "labels": [10**400]}, "which is no finite number in single precision"),
        ("triplet", {"query": "q", "positive": "p"}, "a query, a positive and a negative are expected"),
        ("triplet", {"q": "q", "p": "p", "n1": "n", "n2": "n"}, "there is q, p, n1, n2"),
        ("triplet", {"query": "q", "positive": "p", "negative": "n", "label": 0.5}, "must be a list with one number"),
        ("n-tuple", {"query": "q", "positive": "p"}, "a query, a positive and negatives"),
        ("n-tuple", {"label": 1}, "no column but labels"),
        ("labeled-list", {"query": "q", "docs": ["a"], "scores": [0.5]}, "no column 'labels': scores alone"),
        ("labeled-list", {"query": "q", "docs": ["a"], "labels": [0.5]}, "a relevance is a whole number from 0"),
        ("labeled-list", {"query": "q", "docs": ["a"], "labels": [-1]}, "a relevance is a whole number from 0"),
        ("labeled-list", {"query": "q", "docs": ["a", "b"], "labels": [1]}, "one number for each of 2 documents"),
        ("labeled-list", {"query": "q", "labels": [1]}, "a list of documents and a list of labels are expected"),
    ],
)
def test_a_bad_row_is_told_in_words(form: str, row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_row(row, form)
