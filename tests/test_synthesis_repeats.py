"""Queries that say the same, against going through them one by one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.duplicates import near_duplicates
from secondstage.mine.synthesis.repeats import FEW, repeats

vocabulary = ["how", "is", "sour", "bread", "made", "of", "rye", "dough"]
words = st.lists(st.sampled_from(vocabulary), min_size=1, max_size=4).map(" ".join)


def one_by_one(texts: list[str], threshold: float) -> set[int]:
    kept: list[str] = []
    dropped: set[int] = set()
    for i, text in enumerate(texts):
        if near_duplicates([text], kept, threshold):
            dropped.add(i)
        else:
            kept.append(text)
    return dropped


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(words, min_size=1, max_size=3 * FEW), threshold=st.sampled_from([0.5, 0.8, 1.0]))
def test_the_first_of_each_group_is_kept(texts: list[str], threshold: float) -> None:
    found = repeats(texts, threshold)
    assert set(found) == one_by_one(texts, threshold)
    for i, first in found.items():
        assert first < i
        assert first not in found
        assert near_duplicates([texts[i]], [texts[first]], threshold)


def test_a_text_is_compared_with_kept_ones_alone() -> None:
    chain = ["abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz123", "abcdefghijklmnopqrstuvwxyz123456"]
    assert near_duplicates(chain[1:2], chain[:1], 0.8)
    assert near_duplicates(chain[2:], chain[1:2], 0.8)
    assert not near_duplicates(chain[2:], chain[:1], 0.8)
    assert repeats(chain, 0.8) == {1: 0}


def test_many_texts_of_which_all_but_one_repeat() -> None:
    assert repeats(["How is bread made?"] * 1000, 0.8) == dict.fromkeys(range(1, 1000), 0)
    assert repeats([], 0.8) == {}
