"""What a ranking and the judgements say of each candidate, and what is drawn from the corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.lists import NEGATIVE, POSITIVE, Candidate
from secondstage.mine.candidates import draw_random, known_scores, label
from secondstage.run import Ranking


def ranking(*found: tuple[str, float, str]) -> Ranking:
    doc_ids, scores, retrievers = zip(*found, strict=True) if found else ((), (), ())
    return Ranking(doc_ids, np.array(scores, np.float32), retrievers)


FOUND = ranking(("a", 3.5, "bm25"), ("b", 2.0, "bm25+dense"), ("c", -1.25, "dense"))


def test_every_document_is_labelled_in_order_and_the_missed_positives_follow() -> None:
    assert label(FOUND, {"x": 1, "b": 2, "c": 0, "y": 0, "z": 3}) == [
        Candidate("a", relevance=0, judged=False, retriever="bm25", rank=1, score=3.5, role=NEGATIVE),
        Candidate("b", 2, judged=True, retriever="bm25+dense", rank=2, score=2.0, role=POSITIVE, decision="qrels"),
        Candidate("c", relevance=0, judged=True, retriever="dense", rank=3, score=-1.25, role=NEGATIVE),
        Candidate("x", 1, judged=True, retriever="qrels", rank=0, score=0.0, role=POSITIVE, decision="qrels"),
        Candidate("z", 3, judged=True, retriever="qrels", rank=0, score=0.0, role=POSITIVE, decision="qrels"),
    ]


@pytest.mark.parametrize(
    ("found", "judged", "roles"),
    [
        (FOUND, {}, "nnn"),
        (FOUND, {"a": 1, "b": 1, "c": 1}, "ppp"),
        (FOUND, {"a": 0, "b": 0}, "nnn"),
        (FOUND, {"missed": 0}, "nnn"),
        (FOUND, {"missed": 1}, "nnnp"),
        (ranking(), {"missed": 1, "judged": 0}, "p"),
        (ranking(), {}, ""),
    ],
)
def test_roles(found: Ranking, judged: Mapping[str, int], roles: str) -> None:
    assert "".join(candidate.role[0] for candidate in label(found, judged)) == roles


def test_a_positive_has_the_relevance_that_is_asked_for() -> None:
    judged = {"a": 1, "b": 2, "c": 3, "x": 1, "y": 2}
    for positive_from, expected in ((1, "abcxy"), (2, "bcy"), (3, "c"), (4, "")):
        found = label(FOUND, judged, positive_from=positive_from)
        assert "".join(c.doc_id for c in found if c.role == POSITIVE) == expected
        assert {c.doc_id: c.relevance for c in found if c.rank} == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize(
    ("judged", "reviewed", "expected"),
    [
        # (role, relevance, decision) of a
        ({}, {"a": 2}, (POSITIVE, 2, "review")),
        ({"a": 0}, {"a": 2}, (POSITIVE, 2, "review")),
        ({"a": 3}, {"a": 0}, (NEGATIVE, 0, "review")),
        ({}, {"a": 0}, (NEGATIVE, 0, "review")),
        ({}, {"a": -1}, (NEGATIVE, -1, "review")),
        # Relevant, but not enough: the rule for judged documents decides later.
        ({"a": 3}, {"a": 1}, (NEGATIVE, 1, "")),
        ({"a": 3}, {"b": 0}, (POSITIVE, 3, "qrels")),
    ],
)
def test_a_review_replaces_the_judgement(
    judged: Mapping[str, int], reviewed: Mapping[str, int], expected: tuple[str, int, str]
) -> None:
    found = label(FOUND, judged, positive_from=2, reviewed=reviewed)
    assert [c.doc_id for c in found] == ["a", "b", "c"]
    assert (found[0].role, found[0].relevance, found[0].decision) == expected
    assert found[0].judged


def test_a_review_brings_a_missed_positive_and_takes_one_away() -> None:
    found = label(FOUND, {"x": 1, "y": 1}, reviewed={"y": 0, "z": 1, "nowhere": 0})
    assert [(c.doc_id, c.retriever, c.decision) for c in found[3:]] == [
        ("x", "qrels", "qrels"),
        ("z", "qrels", "review"),
    ]


def test_drawn_documents_come_last_and_each_document_is_there_once() -> None:
    found = label(FOUND, {"x": 1, "j": 0}, drawn=("r", "b", "x", "j", "r"))
    assert [c.doc_id for c in found] == ["a", "b", "c", "x", "r", "j"]
    assert found[4] == Candidate("r", 0, judged=False, retriever="random", rank=0, score=0.0, role=NEGATIVE)
    assert found[5].judged


def test_scores_are_plain_numbers() -> None:
    assert [type(candidate.score) for candidate in label(FOUND, {"x": 1})] == [float] * 4


def test_only_what_was_scored_has_a_score() -> None:
    found = label(FOUND, {"x": 1}, drawn=["r"])
    assert known_scores(found, "first_stage") == {"a": 3.5, "b": 2.0, "c": -1.25}
    assert known_scores(found, "teacher") == {}
    scored = [c._replace(teacher_score=None if c.doc_id == "a" else 0.0) for c in found]
    assert known_scores(scored, "teacher") == {"b": 0.0, "c": 0.0, "x": 0.0, "r": 0.0}


CORPUS = [f"d{i}" for i in range(12)]


@given(st.integers(0, 15), st.sets(st.sampled_from([*CORPUS, "elsewhere"])), st.integers(0, 99))
def test_a_draw_holds_what_is_asked_for_and_nothing_that_is_excluded(count: int, exclude: set[str], seed: int) -> None:
    drawn = draw_random(count, CORPUS, exclude, np.random.default_rng(seed))
    assert len(set(drawn)) == len(drawn) == min(count, len(set(CORPUS) - exclude))
    assert set(drawn) <= set(CORPUS) - exclude
    assert drawn == draw_random(count, CORPUS, exclude, np.random.default_rng(seed))


def test_every_document_is_drawn_as_often_at_every_place() -> None:
    draws, rng = 4000, np.random.default_rng(13)
    found = [draw_random(2, CORPUS, {"d1", "d7"}, rng) for _ in range(draws)]
    for place in (0, 1):
        counts = Counter(drawn[place] for drawn in found)
        assert counts.keys() == set(CORPUS) - {"d1", "d7"}
        assert all(abs(n - draws / 10) < 5 * (draws * 0.1 * 0.9) ** 0.5 for n in counts.values())


def test_of_an_empty_corpus_nothing_is_drawn() -> None:
    assert draw_random(3, [], {"a"}, np.random.default_rng(1)) == []
