"""The first words of a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.firstwords import WORD, first_words


@pytest.mark.parametrize(
    ("text", "count", "first"),
    [("a\nb  c d", 3, "a\nb  c"), ("a b", 2, "a b"), (" a b ", 5, " a b "), ("a b c", 1, "a"), ("", 3, "")],
)
def test_what_stands_between_words_stays(text: str, count: int, first: str) -> None:
    assert first_words(text, count) == first


@given(st.text(" \nab漢", max_size=80), st.integers(1, 9))
def test_the_first_words_are_a_beginning_of_the_text_and_stay_as_they_are(text: str, count: int) -> None:
    found = first_words(text, count)
    assert text.startswith(found)
    assert len(found) <= WORD * count
    assert first_words(found, count) == found
    if len(text) <= WORD * count:
        assert found.split() == text.split()[:count]
    if len(text.split()) < count and len(text) <= WORD * count:
        assert found == text


def test_a_text_without_spaces_is_cut_by_its_letters() -> None:
    assert first_words("漢" * 1000, 7) == "漢" * 7 * WORD
