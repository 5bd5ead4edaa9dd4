"""What was said, by query: who counts more, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from secondstage.serve.feedback.events import CLICK, JUDGEMENT, Events, Said
from secondstage.serve.feedback.labels import Known, gather, new_id

NOTHING = Known({}, {})
DOCUMENTS = set("abcde")
SHOWN = {"s1": list("abcde"), "s2": list("abcde")}


def said(doc_id: str, relevance: int = 1, *, query: str = "Some words", **changes: Any) -> Said:
    return Said("t", JUDGEMENT, "s1", query, doc_id, relevance)._replace(**changes)


def click(doc_id: str, search_id: str | None = "s1", **changes: Any) -> Said:
    return said(doc_id, kind=CLICK, search_id=search_id, **changes)


def events(*several: Said, shown: dict[str, Sequence[str]] | None = None) -> Events:
    return Events(list(several), {**SHOWN} if shown is None else shown, 0)


def test_the_latest_judgement_counts() -> None:
    (found,), counts = gather(events(said("a", 3), said("b", 0), said("a", 0)), NOTHING, DOCUMENTS)
    assert found.relevance == {"a": 0, "b": 0}
    assert counts["judgements_replaced"] == 1


def test_a_judgement_counts_more_than_clicks_before_and_after_it() -> None:
    (found,), _ = gather(events(click("c"), said("c", 0), click("c", "s2"), click("d", "s2")), NOTHING, DOCUMENTS)
    assert found.relevance == {"c": 0, "d": 1}
    assert found.clicks.negatives == set("ab")


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
    assert found.query_id == new_id("some words")
    assert found.query == "  some WORDS?"
    assert found.relevance == {"a": 1, "b": 1}
    two, _ = gather(events(said("a", query="?"), said("b", query="!")), NOTHING, DOCUMENTS)
    assert len(two) == 2


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
    found, counts = gather(events(said("a"), said("b", query="new")), known, DOCUMENTS)
    assert [labels.query for labels in found] == ["new"]
    assert counts["held_out"] == 1


def test_documents_that_are_gone_are_left_out() -> None:
    found, counts = gather(events(said("gone"), said("a")), NOTHING, DOCUMENTS)
    assert (found[0].relevance, counts["no_document"]) == ({"a": 1}, 1)
