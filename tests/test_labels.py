"""What was said, by query: who counts more, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from secondstage.serve.feedback.clicks import Preferred
from secondstage.serve.feedback.events import CLICK, JUDGEMENT, Events, Said
from secondstage.serve.feedback.labels import Known, Labels, gather, new_id

NOTHING = Known({}, {})
DOCUMENTS = set("abcde")
SHOWN = {"s1": list("abcde"), "s2": list("abcde")}


def said(doc_id: str, relevance: int = 1, *, query: str = "Some words", **changes: Any) -> Said:
    return Said("t", JUDGEMENT, "s1", query, doc_id, relevance)._replace(**changes)


def click(doc_id: str, search_id: str | None = "s1", **changes: Any) -> Said:
    return said(doc_id, kind=CLICK, search_id=search_id, **changes)


def events(*several: Said, shown: Mapping[str, Sequence[str]] = SHOWN) -> Events:
    return Events(list(several), dict(shown), 0)


def test_the_latest_judgement_counts() -> None:
    (found,), counts = gather(events(said("a", 3), said("b", 0), said("a", 0)), NOTHING, DOCUMENTS)
    assert found.relevance == {"a": 0, "b": 0}
    assert counts["judgements_replaced"] == 1


def test_a_judgement_counts_more_than_clicks_before_and_after_it() -> None:
    (found,), _ = gather(events(click("c"), said("c", 0), click("c", "s2"), click("d", "s2")), NOTHING, DOCUMENTS)
    assert found.relevance == {"c": 0, "d": 1}
    assert found.clicks.negatives == set("ab")


def collected(found: Labels) -> Known:
    """What the collection that is made of these labels has."""
    query_id = found.query_id
    clicked = {query_id: found.clicks.positives}
    return Known({query_id: found.query}, {"train": {query_id: found.relevance}}, clicked)


def test_clicks_of_an_earlier_round_are_no_judgement() -> None:
    """In rounds, each on the collection that the one before made, clicks come to what they come to all at once."""
    one, other = [click("b", "b0")], [click("a", f"a{i}") for i in range(20)]
    shown = {"b0": "ab", **{f"a{i}": "ba" for i in range(20)}}
    (first,), _ = gather(events(*one, shown=shown), NOTHING, DOCUMENTS)
    (second,), counts = gather(events(*other, shown=shown), collected(first), DOCUMENTS)
    (at_once,), _ = gather(events(*one, *other, shown=shown), NOTHING, DOCUMENTS)
    assert (first.relevance, second) == ({"b": 1}, at_once)
    assert (second.relevance, second.clicks.negatives, counts["judgements_replaced"]) == ({"a": 1}, frozenset("b"), 0)


def test_what_earlier_clicks_came_to_stays_where_nobody_says_otherwise() -> None:
    def after(*several: Said) -> Labels:
        judged = {"a": 2, "b": 1, "c": 1}
        known = Known({"q": "some words"}, {"train": {"q": judged}}, {"q": frozenset("bc"), "gone": frozenset("a")})
        (found,), _ = gather(events(*several), known, DOCUMENTS)
        return found

    assert after(said("d")).relevance == {"a": 2, "b": 1, "c": 1, "d": 1}
    assert after(said("d")).judged == {"a": 2, "d": 1}
    assert after(said("b", 0)).relevance == {"a": 2, "b": 0, "c": 1}
    # d was clicked below b and c, and a, which a person judged, is in no pair.
    assert after(click("d")).relevance == {"a": 2, "d": 1}
    assert after(click("d")).clicks.negatives == set("bc")


def test_the_same_clicks_again_keep_what_was_passed_over() -> None:
    """The qrels do not have it, and the next training reads it of the last round alone."""
    (first,), _ = gather(events(click("c")), NOTHING, DOCUMENTS)
    known = collected(first)
    assert gather(events(click("c")), known, DOCUMENTS)[0] == [first]
    nothing, counts = gather(events(click("a")), known, DOCUMENTS)
    assert (nothing, counts["queries_without_news"]) == ([], 1)


def test_clicks_of_one_query_in_several_searches_are_weighed_together() -> None:
    (found,), counts = gather(events(click("b"), click("c", "s2")), NOTHING, DOCUMENTS)
    assert (found.clicks.positives, found.clicks.negatives, found.clicks.undecided) == (
        frozenset("c"),
        frozenset("a"),
        frozenset("b"),
    )
    assert (counts["clicks"], counts["clicked_positives"], counts["skipped_negatives"]) == (2, 1, 1)


def test_what_was_passed_over_is_not_judged_irrelevant() -> None:
    (found,), _ = gather(events(click("c")), NOTHING, DOCUMENTS)
    assert found.relevance == {"c": 1}


def test_clicks_without_a_list_say_nothing() -> None:
    found, counts = gather(events(click("c", None), click("c", "unknown")), NOTHING, DOCUMENTS)
    assert (found, counts["clicks_without_list"], counts["queries_without_news"]) == ([], 2, 1)


def test_queries_with_the_same_words_are_one() -> None:
    (found,), _ = gather(events(said("a"), said("b", query="  some WORDS?")), NOTHING, DOCUMENTS)
    assert found.query_id == new_id("some words", {})
    assert found.query == "  some WORDS?"
    assert found.relevance == {"a": 1, "b": 1}
    two, _ = gather(events(said("a", query="?"), said("b", query="!")), NOTHING, DOCUMENTS)
    assert len(two) == 2


def test_queries_that_a_sign_tells_apart_are_two() -> None:
    found, _ = gather(
        events(said("a", query="C++"), said("b", query="C#"), said("c", query="c++ ")), NOTHING, DOCUMENTS
    )
    assert [labels.relevance for labels in found] == [{"a": 1, "c": 1}, {"b": 1}]
    assert len({labels.query_id for labels in found}) == 2


def test_an_id_of_a_query_that_asks_something_else_is_not_taken() -> None:
    """Ids were once made of the words alone."""
    old = new_id("c", {})
    known = Known({old: "C++"}, {"train": {old: {"a": 1}}})
    (one, other), _ = gather(events(said("b", query="C"), said("c", query="C++")), known, DOCUMENTS)
    assert (one.query, one.relevance, other.query_id) == ("C", {"b": 1}, old)
    assert other.relevance == {"a": 1, "c": 1}
    (again,), _ = gather(events(said("c", query="c")), collected(one), DOCUMENTS)
    assert (again.query_id, again.relevance) == (one.query_id, {"b": 1, "c": 1})


def test_a_query_that_the_collection_knows_keeps_its_id_and_judgements() -> None:
    known = Known({"q1": "some words", "q2": "other words"}, {"train": {"q1": {"a": 1, "b": 2}, "q2": {"a": 1}}})
    (found,), _ = gather(events(said("a", 0), said("c")), known, DOCUMENTS)
    assert (found.query_id, found.query) == ("q1", "some words")
    assert found.relevance == {"a": 0, "b": 2, "c": 1}
    # Said once more, it is no news.
    again, counts = gather(
        events(said("a", 0), click("c")), Known(known.queries, {"train": {"q1": found.relevance}}), DOCUMENTS
    )
    assert (again, counts["queries_without_news"]) == ([], 1)


def test_dev_and_test_queries_are_never_trained_on() -> None:
    known = Known({"q1": "some words"}, {"test": {"q1": {"a": 1}}})
    asked = said("a"), said("b", query="new"), said("c", query="*some* words 👍")
    found, counts = gather(events(*asked), known, DOCUMENTS)
    assert [labels.query for labels in found] == ["new"]
    assert counts["held_out"] == 2


def test_documents_that_are_gone_were_passed_over_for_nothing() -> None:
    shown = {"s1": ["gone", "a", "b"]}
    (found,), counts = gather(events(click("b"), shown=shown), NOTHING, DOCUMENTS)
    assert (found.clicks, counts["skipped_negatives"]) == (Preferred(frozenset("b"), frozenset("a")), 1)


def test_documents_that_are_gone_are_left_out() -> None:
    found, counts = gather(events(said("gone"), said("a")), NOTHING, DOCUMENTS)
    assert (found[0].relevance, counts["no_document"]) == ({"a": 1}, 1)
