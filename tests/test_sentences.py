"""What a text opens with, in any script, and the text without a sentence of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.sentences import SENTENCE_WORDS, document_without, opening, units


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
