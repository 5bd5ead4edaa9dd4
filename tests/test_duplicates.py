"""Near-duplicates against all pairs compared by hand, and what normalisation keeps and drops."""

from __future__ import annotations

import unicodedata
from itertools import product
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from secondstage import duplicates
from secondstage.duplicates import Duplicate, near_duplicates, near_pairs, normalise, question_key

# Few words, so that many pairs lie at, just above and just below any threshold.
WORDS = ("a", "ab", "aba", "abab", "bread", "breads", "oven", "ovens?", "№ 12", "")
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), max_size=8)


def grams(text: str) -> set[str]:
    text = normalise(text)
    return {text[i : i + 4] for i in range(len(text) - 3)} or {text}


def jaccard(a: str, b: str) -> float:
    return len(grams(a) & grams(b)) / len(grams(a) | grams(b))


def all_pairs(left: list[str], right: list[str], threshold: float) -> list[Duplicate]:
    found = []
    for i, text in enumerate(left):
        similarity, negated = max(((jaccard(text, other), -j) for j, other in enumerate(right)), default=(0.0, 0))
        if similarity >= threshold:
            found.append(Duplicate(i, -negated, similarity))
    return found


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS, st.sampled_from([0.05, 0.3, 0.5, 2 / 3, 0.7, 0.8, 0.9, 1.0]), st.sampled_from([1, 20, 1 << 20]))
@example(["abcd", "abc"], ["abc", "abcde", "abcd"], 0.8, 1 << 20)
@example(["aaaaaa"], ["aaaaa", "aaaaaa"], 1.0, 1 << 20)
def test_the_search_finds_what_all_pairs_find(left: list[str], right: list[str], threshold: float, block: int) -> None:
    with mock.patch.object(duplicates, "BLOCK", block):
        assert near_duplicates(left, right, threshold) == all_pairs(left, right, threshold)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60))
def test_a_similarity_of_exactly_the_threshold_is_found(shared: int, own: int) -> None:
    """The bounds round: they must not lose what is on the edge."""
    letters = [chr(0x4E00 + i) for i in range(shared + own + 3)]
    shorter, longer = "".join(letters[: shared + 3]), "".join(letters)
    threshold = shared / (shared + own)
    expected = [Duplicate(0, 0, threshold)]
    assert near_duplicates([shorter], [longer], threshold) == expected
    assert near_duplicates([longer], [shorter], threshold) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  What is\tBREAD?! ", "what is bread"),
        ("Straße", "strasse"),
        ("snake_case", "snake case"),
        ("ﬁne ½ ²", "fine 1 2 2"),
        ("ＡＢＣ１２", "abc12"),
        ("cafe\u0301", "café"),
        ("की और कि", "की और कि"),
        ("?!", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("same", "other"),
    [
        (("Read a file in C++?", "read a file  in c++"), "read a file in C#"),
        (("what is 5+5", "What is 5 + 5?!"), "what is 5 5"),
        (("e-mail (address)", "`e mail`: address"), "e & mail address"),
        (("->", " -> "), ">"),
        (("!=", "!= "), "="),
        (("a^b",), "a b"),
        (("?!", " ?!"), "..."),
        (("100 %", "１００％"), "100 €"),
    ],
)
def test_a_question_is_told_apart_by_its_signs(same: tuple[str, ...], other: str) -> None:
    (key,) = set(map(question_key, same))
    assert key != question_key(other)
    assert question_key(key) == key


@given(st.text())
def test_questions_that_are_the_same_have_the_same_words(text: str) -> None:
    key = question_key(text)
    assert normalise(key) == normalise(text)
    if normalise(text) and not any(unicodedata.category(char)[0] == "S" or char in "#%&*@" for char in key):
        assert key == normalise(text)


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert all(unicodedata.category(char)[0] in "LMN" for char in once.replace(" ", ""))
    assert once.split(" ") == (once.split() or [""])


def test_negated_and_altered_claims_are_near_duplicates() -> None:
    claims = [
        "Treatment with the new inhibitor increases the survival of mice after infection",
        "Of all patients with a persistent infection 42% recovered within a year of treatment",
        "Bread needs an oven",
    ]
    altered = [claims[1].replace("42", "24"), claims[0].replace("increases", "decreases"), "Chess needs a board"]
    assert [found[:2] for found in near_duplicates(claims, altered)] == [(0, 1), (1, 0)]


@settings(max_examples=50, deadline=None)
@given(TEXTS, TEXTS)
def test_the_order_of_the_texts_does_not_matter(left: list[str], right: list[str]) -> None:
    def similarities(ours: list[str], theirs: list[str]) -> dict[str, float]:
        return {ours[i]: similarity for i, _, similarity in near_duplicates(ours, theirs, 0.5)}

    assert similarities(left[::-1], right[::-1]) == similarities(left, right)


def test_many_copies_of_one_text_are_compared_once() -> None:
    with mock.patch.object(duplicates, "_overlaps", wraps=duplicates._overlaps) as compare:
        found = near_duplicates(["Why?"] * 300, ["how", *["why"] * 300])
    assert found == [Duplicate(i, 1, 1.0) for i in range(300)]
    assert [len(call.args[1]) for call in compare.call_args_list] == [1]


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_a_threshold_outside_of_0_to_1_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="above 0 and up to 1"):
        near_duplicates(["a"], ["a"], threshold)
    with pytest.raises(ValueError, match="above 0 and up to 1"):
        near_pairs([("a", "a")], str, threshold)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.sampled_from([0.05, 0.3, 0.5, 2 / 3, 0.7, 0.8, 0.9, 1.0]), st.sampled_from([1, 1024]))
@example(["abcd", "abc", "", "abcde"], 0.3, 1)
def test_given_pairs_are_compared_exactly(texts: list[str], threshold: float, held: int) -> None:
    by_name = {f"t{i}": text for i, text in enumerate(texts)}
    pairs = list(product(by_name, by_name))
    expected = {(a, b): jaccard(by_name[a], by_name[b]) for a, b in sorted(pairs)}
    expected = {pair: similarity for pair, similarity in expected.items() if similarity >= threshold}
    with mock.patch.object(duplicates, "HELD", held):
        found = near_pairs(pairs, by_name.__getitem__, threshold)
    assert found == expected
    assert list(found) == list(expected)


def altered(text: str, changes: int, rng: np.random.Generator) -> str:
    """A long text with some of its letters changed."""
    letters = list(text)
    for i in rng.choice(len(letters), changes, replace=False):
        letters[i] = chr(0x4E00 + int(rng.integers(500)))
    return "".join(letters)


@pytest.mark.parametrize("threshold", [0.4, 0.8, 0.9, 0.97])
def test_the_sample_of_long_texts_loses_no_pair(threshold: float) -> None:
    rng = np.random.default_rng(13)
    text = "".join(map(chr, rng.integers(ord("a"), ord("z") + 1, 1500).tolist()))
    texts = {"0": text} | {str(changes): altered(text, changes, rng) for changes in (1, 5, 10, 20, 40, 100, 300)}
    expected = {(a, b): jaccard(texts[a], texts[b]) for a, b in product(sorted(texts), repeat=2)}
    assert near_pairs(product(texts, texts), texts.__getitem__, threshold) == {
        pair: similarity for pair, similarity in expected.items() if similarity >= threshold
    }
    assert min(expected.values()) < threshold < max(similarity for (a, b), similarity in expected.items() if a != b)


def test_few_pairs_of_unlike_texts_are_compared_whole() -> None:
    """Texts of one length that share a third of their n-grams: sizes say nothing, the sample does."""
    rng = np.random.default_rng(13)
    shared, *own = ("".join(map(chr, rng.integers(97, 123, size).tolist())) for size in [500] + [500] * 30)
    texts = {str(i): f"{shared} {text}" for i, text in enumerate(own)}
    asked: list[str] = []

    def text_of(name: str) -> str:
        asked.append(name)
        return texts[name]

    assert near_pairs(((a, b) for a, b in product(texts, texts) if a != b), text_of, 0.9) == {}
    assert len(asked) == len(texts)
    assert 0.2 < jaccard(texts["0"], texts["1"]) < 0.5


def test_of_no_pairs_there_is_nothing() -> None:
    assert near_pairs([], str, 0.9) == {}
