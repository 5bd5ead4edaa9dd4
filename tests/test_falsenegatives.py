"""Positives that nobody labelled: what points to them, which rule decides, and what it makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, get_args

import pytest

from secondstage.config import FalseNegativesConfig
from secondstage.config.mine import Action
from secondstage.lists import DROPPED, IGNORED, NEGATIVE, POSITIVE, Candidate
from secondstage.mine.falsenegatives import (
    by_people,
    by_teacher,
    by_text,
    positives_elsewhere,
    possible_twins,
    resolve,
    surest,
)
from secondstage.mine.policies import Against


def candidate(
    doc_id: str, relevance: int | None = None, teacher: float | None = None, decision: str = "", least: int = 2
) -> Candidate:
    """Judged if it has a relevance, a positive from `least` on."""
    role = POSITIVE if (relevance or 0) >= least else NEGATIVE
    judged = relevance is not None
    return Candidate(doc_id, relevance or 0, judged, "bm25", 1, 0.0, role, decision, teacher)


# p and q are positives of relevance 3 and 2, j is judged irrelevant, s slightly relevant, v by a review irrelevant.
LIST = [
    candidate("p", 3, 0.9),
    candidate("a", None, 0.88),
    candidate("q", 2, 0.5),
    candidate("b", None, 0.52),
    candidate("c", None, 0.3),
    candidate("j", 0, 0.99),
    candidate("s", 1, 0.2),
    candidate("v", 0, 0.98, "review"),
    candidate("z", None, 0.0),
]


def resolved(
    candidates: Sequence[Candidate] = LIST,
    twins: Mapping[tuple[str, str], float] | None = None,
    elsewhere: Mapping[str, int] | None = None,
    against: Against = "min",
    **actions: Any,
) -> dict[str, tuple[str, str, int]]:
    """Role, decision and relevance of what is changed; what is not named is kept."""
    keep: dict[str, Any] = {"teacher": "keep", "duplicate": "keep", "judged": "keep"}
    config = FalseNegativesConfig(**(keep | actions))
    found = resolve(candidates, config, against=against, twins=twins or {}, elsewhere=elsewhere or {})
    assert [c.doc_id for c in found] == [c.doc_id for c in candidates]
    pairs = zip(candidates, found, strict=True)
    return {c.doc_id: (c.role, c.decision, c.relevance) for before, c in pairs if c != before}


def test_the_teacher_finds_what_it_puts_near_the_positive_that_decides() -> None:
    assert by_teacher(LIST, 0.95, "min") == {"a": 3, "b": 2}
    assert by_teacher(LIST, 0.95, "max") == {"a": 3}
    assert by_teacher(LIST, 0.95, "mean") == {"a": 3}
    assert by_teacher(LIST, 0.5, "min") == {"a": 3, "b": 2, "c": 2}
    assert by_teacher(LIST, 1.1, "min") == {"a": 3}


NEAR: Sequence[tuple[Against, float, str]] = [
    # The lowest score is 0, the positives have 0.5 and 0.9.
    ("min", 0.59, "abc"),
    ("mean", 0.59, "ab"),
    ("max", 0.59, "a"),
    ("min", 0.95, "ab"),
    ("max", 0.5, "ab"),
]


@pytest.mark.parametrize(("against", "share", "expected"), NEAR)
def test_what_is_near_is_what_the_settings_say(against: Against, share: float, expected: str) -> None:
    found = resolved(against=against, teacher="drop", teacher_share=share)
    assert found == dict.fromkeys(expected, (DROPPED, "teacher", 0))


def test_without_scores_the_teacher_finds_nothing() -> None:
    assert by_teacher([c._replace(teacher_score=None) for c in LIST], 0.95, "min") == {}
    unscored = [c._replace(teacher_score=None) if c.role == POSITIVE else c for c in LIST]
    assert by_teacher(unscored, 0.95, "min") == {}
    assert by_teacher([c._replace(teacher_score=0.5) for c in LIST], 0.95, "min") == {}
    assert by_teacher([], 0.95, "min") == {}


def test_a_text_is_as_relevant_as_the_one_it_is_most_like() -> None:
    twins = {("p", "a"): 0.91, ("q", "a"): 0.97, ("q", "b"): 0.95, ("p", "b"): 0.95, ("p", "j"): 1.0, ("x", "c"): 1.0}
    assert by_text(LIST, twins) == {"a": 2, "b": 3}
    assert by_text(LIST, {("p", "q"): 1.0, ("p", "v"): 1.0, ("a", "p"): 1.0}) == {}


def test_texts_are_compared_where_it_could_matter() -> None:
    assert set(possible_twins(LIST)) == set(product("pq", "abcz"))
    assert list(possible_twins([candidate("a")])) == []


def test_people_judge_elsewhere_or_not_enough() -> None:
    assert by_people(LIST, {}) == {"s": 1}
    assert by_people(LIST, {"a": 3, "j": 2, "p": 1, "v": 3, "nowhere": 1}) == {"a": 3, "j": 2, "s": 1}


@pytest.mark.parametrize(
    ("action", "unjudged", "own"),
    [
        ("keep", None, None),
        ("drop", (DROPPED, "judged", 0), (DROPPED, "judged", 1)),
        ("ignore", (IGNORED, "judged", 0), (IGNORED, "judged", 1)),
        # A judgement of its own is not overruled.
        ("relabel", (POSITIVE, "judged", 2), (IGNORED, "judged", 1)),
    ],
)
def test_actions(action: str, unjudged: object, own: object) -> None:
    found = resolved(elsewhere={"c": 2}, judged=action)
    assert found == {doc_id: value for doc_id, value in (("c", unjudged), ("s", own)) if value}


def test_each_rule_names_itself() -> None:
    assert resolved(teacher="drop") == {"a": (DROPPED, "teacher", 0), "b": (DROPPED, "teacher", 0)}
    assert resolved(teacher="ignore") == {"a": (IGNORED, "teacher", 0), "b": (IGNORED, "teacher", 0)}
    twins = {("q", "c"): 0.9}
    assert resolved(twins=twins, duplicate="relabel") == {"c": (POSITIVE, "duplicate", 2)}
    assert resolved(twins=twins, duplicate="ignore") == {"c": (IGNORED, "duplicate", 0)}
    assert resolved(elsewhere={"j": 2}, judged="relabel")["j"] == (IGNORED, "judged", 0)


def test_of_what_the_teacher_finds_only_the_surest_is_relabelled() -> None:
    """a1 and a2 are above every positive, a2 higher; b is near the positive that decides only."""
    lists = [candidate("p", 3, 0.9), candidate("a1", None, 0.95), candidate("q", 2, 0.5), candidate("b", None, 0.7)]
    lists += [candidate("a2", None, 1.0), candidate("j", 0, 1.5), candidate("z", None, 0.0)]
    assert surest(lists, 1) == {"a2"}
    assert surest(lists, None) == surest(lists, 2) == {"a1", "a2"}
    assert surest([c for c in lists if c.role != POSITIVE], None) == set()
    relabelled = resolved(lists, teacher="relabel")
    rest = {"a1": (DROPPED, "teacher", 0), "b": (DROPPED, "teacher", 0)}
    assert relabelled == {"a2": (POSITIVE, "teacher", 3), **rest}
    assert resolved(lists, teacher="relabel", relabel_most=None) == {
        "a1": (POSITIVE, "teacher", 3),
        "a2": (POSITIVE, "teacher", 3),
        "b": (DROPPED, "teacher", 0),
    }
    # As high as a positive is not above it: it is dropped.
    equal = [candidate("p", 3, 0.9), candidate("e", None, 0.9), candidate("z", None, 0.0)]
    assert surest(equal, None) == set()
    assert resolved(equal, teacher="relabel") == {"e": (DROPPED, "teacher", 0)}
    # Equal scores: the first of the list.
    tied = [candidate("p", 3, 0.5), candidate("y", None, 0.9), candidate("x", None, 0.9), candidate("z", None, 0.0)]
    assert surest(tied, 1) == {"y"}


ROLES = {"drop": DROPPED, "ignore": IGNORED, "relabel": POSITIVE}


@pytest.mark.parametrize("actions", list(product(get_args(Action), repeat=3)))
def test_people_come_before_the_teacher_and_this_before_the_text(actions: tuple[str, str, str]) -> None:
    """All three rules find a, the teacher above every positive."""
    judged, teacher, duplicate = actions
    lists = [c._replace(teacher_score=0.97) if c.doc_id == "a" else c for c in LIST]
    found = resolved(
        lists, twins={("q", "a"): 1.0}, elsewhere={"a": 5}, judged=judged, teacher=teacher, duplicate=duplicate
    )
    rules = (("judged", judged, 5), ("teacher", teacher, 3), ("duplicate", duplicate, 2))
    first = next((rule for rule in rules if rule[1] != "keep"), None)
    if first is None:
        assert found == {}
    else:
        name, action, relevance = first
        assert found["a"] == (ROLES[action], name, relevance if action == "relabel" else 0)


@pytest.mark.parametrize("action", ["drop", "ignore", "relabel"])
def test_no_rule_touches_positives_and_what_people_judged_irrelevant(action: str) -> None:
    twins = dict.fromkeys(product("pq", "pqjv"), 1.0)
    found = resolved(twins=twins, elsewhere={"v": 3, "p": 1, "q": 9}, judged=action, teacher=action, duplicate=action)
    assert found.keys() == {"a", "b", "s"}


def test_what_is_asked_twice_has_the_positives_of_both() -> None:
    queries = {"1": "What is bread?", "2": "what is BREAD", "3": "What is a river?", "4": "what is bread!"}
    qrels = {"1": {"a": 3, "b": 1}, "2": {"a": 1, "c": 2}, "3": {"d": 1}, "4": {"e": 0}}
    assert positives_elsewhere(queries, qrels) == {query_id: {"a": 3, "b": 1, "c": 2} for query_id in "124"}
    assert positives_elsewhere(queries, qrels, positive_from=2) == {query_id: {"a": 3, "c": 2} for query_id in "124"}
    assert positives_elsewhere(queries, {"1": {"a": 1}, "3": {"d": 1}}) == {}
    assert positives_elsewhere(queries, {}) == {}


def test_what_a_sign_tells_apart_is_not_asked_twice() -> None:
    queries = {"1": "read a file in C++", "2": "read a file in C#", "3": "->", "4": "!=", "5": "Read a file in C++?"}
    qrels = {query_id: {f"d{query_id}": 1} for query_id in queries}
    assert positives_elsewhere(queries, qrels) == {query_id: {"d1": 1, "d5": 1} for query_id in "15"}
