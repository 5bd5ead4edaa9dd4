"""What clicks say, and what they do not."""

from __future__ import annotations

from itertools import combinations

import pytest

from secondstage.serve.feedback.clicks import Preferred, evidence, preferred, skipped_above

SHOWN = ["a", "b", "c", "d", "e"]


def outcome(positives: str = "", negatives: str = "", undecided: str = "") -> Preferred:
    return Preferred(frozenset(positives), frozenset(negatives), frozenset(undecided))


def test_joachims_example() -> None:
    """Clicks on the first, third and fifth result: 3 over 2, 5 over 2 and 4 (Joachims 2002, example 1)."""
    assert skipped_above(SHOWN, {"a", "c", "e"}) == [("c", "b"), ("e", "b"), ("e", "d")]


def test_a_click_on_the_first_result_says_nothing() -> None:
    assert skipped_above(SHOWN, {"a"}) == []
    assert preferred(skipped_above(SHOWN, {"a", "b"})) == outcome()


def test_a_click_on_what_was_not_shown_says_nothing() -> None:
    assert skipped_above(SHOWN, {"x"}) == []


@pytest.mark.parametrize(
    "clicked",
    [set(part) for size in range(6) for part in combinations(SHOWN, size)],
    ids=lambda clicked: "".join(sorted(clicked)) or "none",
)
def test_pairs_are_of_a_clicked_document_and_one_above_that_was_not(clicked: set[str]) -> None:
    pairs = skipped_above(SHOWN, clicked)
    expected = {
        (SHOWN[j], SHOWN[i]) for j in range(5) for i in range(j) if SHOWN[j] in clicked and SHOWN[i] not in clicked
    }
    assert len(pairs) == len(expected)
    assert set(pairs) == expected


def test_who_is_preferred_and_who_is_passed_over() -> None:
    assert preferred(skipped_above(SHOWN, {"c", "e"})) == outcome("ce", "abd")


def test_who_stands_between_is_undecided() -> None:
    """b is preferred to a, c to b and a."""
    pairs = [*skipped_above(SHOWN, {"b"}), *skipped_above(SHOWN, {"c"})]
    assert preferred(pairs) == outcome("c", "a", "b")


def test_evidence_against_each_other_cancels_out() -> None:
    assert preferred([("a", "b"), ("b", "a")]) == outcome(undecided="ab")
    assert preferred([("a", "b"), ("b", "a"), ("a", "b")]) == outcome("a", "b")


def test_as_much_evidence_as_is_asked_for() -> None:
    pairs = [("a", "b")] * 3 + [("b", "a")]
    assert preferred(pairs, least=2) == outcome("a", "b")
    assert preferred(pairs, least=3) == outcome(undecided="ab")


def test_what_a_person_judged_is_in_no_pair() -> None:
    assert preferred([("c", "a"), ("c", "b")], judged={"c"}) == outcome()
    assert preferred([("c", "a"), ("c", "b")], judged={"a": 2}) == outcome("c", "b")


def test_searches_whose_list_is_not_known_have_no_evidence() -> None:
    shown = {"s1": SHOWN}
    assert evidence(shown, {"s1": {"b"}, "s2": {"e"}}) == [("b", "a")]
