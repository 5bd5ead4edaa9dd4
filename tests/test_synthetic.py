"""Synthetic queries: what is written is read, whom they are answered by, and the texts that training reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.collection import Collection, Documents
from secondstage.errors import UserError
from secondstage.synthetic import (
    SENTENCE_WORDS,
    PairTexts,
    SyntheticQuery,
    document_without,
    opening,
    read_records,
    read_synthetic,
    synthetic_qrels,
    units,
    write_synthetic,
)

KEPT = SyntheticQuery("synthetic-1", "Wie backt man Brot?", "d0", "question", "local tiny", rank=2, teacher_rank=1)
SAME = SyntheticQuery("synthetic-2", "wie backt man brot", "d2", "question", "local tiny", rank=1)
SAME = SAME.dropped("same_text", "duplicate of synthetic-1")._replace(same_as="synthetic-1")
LOST = SyntheticQuery("synthetic-3", "\u2028 線", "d1", "claim", "local tiny").dropped(
    "round_trip", "not found in top 10"
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "synthetic.jsonl"
    write_synthetic(path, [KEPT, SAME, LOST])
    assert list(read_records(path)) == [KEPT, SAME, LOST]
    assert read_synthetic(path) == {"synthetic-1": "Wie backt man Brot?"}
    assert len(path.read_text(encoding="utf-8").split("\n")) == 4


@pytest.mark.parametrize("line", ["{}", "[1]", "no", '{"query_id": "q", "size": 1}'])
def test_a_line_that_is_no_query_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "synthetic.jsonl"
    write_synthetic(path, [KEPT])
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"synthetic\.jsonl:2 is no synthetic query"):
        read_synthetic(path)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl is missing"):
        read_synthetic(tmp_path / "none.jsonl")


def test_a_document_that_gave_the_same_query_answers_it_too() -> None:
    assert synthetic_qrels([KEPT, SAME, LOST]) == {"synthetic-1": {"d0": 1, "d2": 1}}
    # The query that it repeats was dropped for another reason.
    assert synthetic_qrels([KEPT.dropped("near_duplicate", ""), SAME]) == {}


# --- the texts of pairs


def test_the_positive_of_a_title_is_read_without_it(as_documents: Callable[[Sequence[str]], Documents]) -> None:
    documents = as_documents(
        ["Sour bread\nHow sour bread is made.", "Eat sour bread\nwith cheese.", "sour bread. Again."]
    )
    title = SyntheticQuery("synthetic-t", "Sour bread", "d0", "title", "title")
    again = title._replace(query_id="synthetic-a", doc_id="d2", same_as="synthetic-t", rule="same_text", kept=False)
    written = SyntheticQuery("synthetic-q", "sour bread", "d0", "keyword", "llm")
    texts = PairTexts({"real": "sour bread"}, documents, [title, again, written])
    ids = ("synthetic-t", "synthetic-q", "real")
    found = texts([(query_id, f"d{i}") for query_id in ids for i in range(3)])
    plain = documents.contents(["d0", "d1", "d2"])
    assert found == [
        ("Sour bread", "How sour bread is made."),
        ("Sour bread", plain[1]),  # not its positive, and without a title: the words stay
        ("Sour bread", "Again."),
        *(("sour bread", content) for content in plain * 2),
    ]


def test_no_document_of_a_title_has_its_own_title_and_none_of_a_sentence_its_own_first_one(
    collection: Collection,
) -> None:
    """Else a reranker would learn that what lacks one is relevant."""
    documents = collection.documents
    title = SyntheticQuery("synthetic-t", "bread flour", "bread-0", "title", "title")
    sentence = SyntheticQuery("synthetic-s", "Yeast oven dough crust.", "bread-0", "first_sentence", "first_sentence")
    texts = PairTexts({"real": "bread"}, documents, [title, sentence])
    other, own = documents.by_id("bread-1"), documents.by_id("bread-0")
    found = texts([(query_id, "bread-1") for query_id in ("synthetic-t", "synthetic-s", "real")])
    assert [text for _, text in found] == [other.text, other.title, other.content]
    assert texts([("synthetic-t", "bread-0")]) == [("bread flour", own.text)]


def test_the_opening_of_a_text() -> None:
    assert opening("  One two\nthree. Four five.\n\nSix.") == "One two three."
    assert opening("\u30d1\u30f3\u3002\u6c34\u3002") == "\u30d1\u30f3\u3002"
    for first, rest in (
        ("یہ پہلا جملہ ہے۔", " یہ دوسرا ہے۔"),
        ("ما هي عاصمة مصر؟", " هي القاهرة."),
        ("यह वाक्य है॥", " और यह।"),
    ):
        assert opening(first + rest) == first
        assert document_without(first, first + rest) == rest.strip()
    assert opening("A heading\n\nA text.") == "A heading"
    # A heading is no part of the sentence after it, and of few words no opening.
    for first, text in (
        ("How to bake bread", "# How to bake bread\nFlour is mixed. Water, too."),
        ("How to bake bread", "\n## How to  bake bread ##\n\nFlour is mixed."),
        ("How to bake bread", "How to bake bread\n=====\nFlour is mixed."),
        ("How to bake bread", "# Bread\n\nHow to bake bread\n---\nFlour is mixed."),
        ("Flour is mixed.", "# Bread\nFlour is mixed. Water, too."),
        ("Flour is mixed.", "Bread\n===\n\n## For beginners\n\nFlour is mixed."),
        ("#hash is a comment", "#hash is a comment\n\nof the shell"),
        ("", "# Bread"),
    ):
        assert opening(text) == first, text
        assert first not in document_without(first, text) or not first
    assert opening(" \n") == ""


def test_an_unknown_or_dropped_query_has_no_text(as_documents: Callable[[Sequence[str]], Documents]) -> None:
    texts = PairTexts({}, as_documents(["a", "b"]), [LOST])
    with pytest.raises(KeyError):
        texts([("synthetic-3", "d1")])


@pytest.mark.parametrize(
    ("query", "content", "rest"),
    [
        ("Baking bread", "Baking bread\nYou need flour.", "You need flour."),
        ("What is an oven?", "What is an\n  OVEN? A hot box.", "A hot box."),
        ("art", "Art\nParts of art, and artful smart party.", "Parts of art, and artful smart party."),
        (
            "a b c d e f g h",
            "Ha b c d e f g h\n\nA b c d, e f g H; a b c d e f g",
            "Ha b c d e f g h\n\n; a b c d e f g",
        ),
        ("C++", "C++\nC and C++ and c.", "++\nC and C++ and c."),
        ("How to bake bread", "# How to bake bread\nFlour.\n# How to bake bread", "Flour.\n# How to bake bread"),
        ("How to bake bread", "## How to bake bread ##\n\n# Flour", "# Flour"),
        ("How to bake bread", "How to bake bread\n-----\n- flour", "- flour"),
        ("Flour is mixed.", "# Bread\nFlour is mixed. Water.", "# Bread\n Water."),
        ("おいしいパンの作り方", "おいしいパンの作り方\n彼はおいしいパンの作り方を学ぶ。", "彼はを学ぶ。"),
        ("the art of party", "The art of party\nand THE art of party.", "and THE art of party."),
        ("不存在", "パン", "パン"),
        ("…", "… and more", "… and more"),
        ("यह हिन्दी है", "यह हिन्दी है॥ और यह।", "और यह।"),
        ("बेला", "बेल और बेला", "बेल और"),
        ("بيت كبير", "بيت كبير\nهذا نص", "هذا نص"),
    ],
)
def test_a_document_without_a_query(query: str, content: str, rest: str) -> None:
    assert document_without(query, content) == rest


words = st.lists(st.text("abcXYZäß", min_size=1, max_size=5), min_size=1, max_size=6)


@given(query=words.map(lambda query: query * SENTENCE_WORDS), before=words, after=words)
def test_nothing_but_the_query_is_taken(query: list[str], before: list[str], after: list[str]) -> None:
    text = " ".join(query)
    content = f"1{' '.join(before)}1\n{text}.\n2{' '.join(after)}2"
    # The digits keep the first and last words from being the query's.
    inner = [document_without(text, part) for part in (f"1{' '.join(before)}1", f"2{' '.join(after)}2")]
    assert document_without(text, content).split() == " ".join(inner).split()


def test_units_are_words_and_the_characters_of_scripts_without_spaces() -> None:
    assert units("It's 3 o'clock_now: パンabc 빵") == ["It", "s", "3", "o", "clock", "now", "パ", "ン", "abc", "빵"]
    assert len(units("हिन्दी भाषा का इतिहास")) == len(units("re\u0301sume\u0301 مُحَمَّدٌ தமிழ் łódź")) == 4
    assert units("สวัส") == list("สวัส")
