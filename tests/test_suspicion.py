"""Suspicious candidates: each kind where it is due, the worst first, whatever the order of the lists."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from secondstage.lists import DROPPED, IGNORED, NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.mine.decisions import DUPLICATE, REVIEW
from secondstage.mine.suspicion import (
    FALSE_NEGATIVE,
    KINDS,
    NEAR_DUPLICATE,
    RELABELLED,
    WRONG_POSITIVE,
    Suspect,
    Suspects,
    suspicions,
)
from secondstage.run import strictly_decreasing


def candidate(doc_id: str, role: str, score: float, teacher: float | None = None, **more: object) -> Candidate:
    """A labelled positive is judged, all else is not."""
    plain = Candidate(doc_id, int(role == POSITIVE), role == POSITIVE, "bm25", 1, score, role, "sampled", teacher)
    return plain._replace(**more)  # type: ignore[arg-type]


def suspicious(lists: Iterable[TrainingList], limit: int = 100, positive_from: int = 1) -> list[Suspect]:
    suspects = Suspects(limit, positive_from)
    for found in lists:
        suspects.add(found)
    return suspects.most()


def one(*candidates: Candidate) -> dict[str, Suspect]:
    return {suspect.candidate.doc_id: suspect for suspect in suspicions(TrainingList("q", candidates))}


def test_a_negative_above_the_positive_is_a_false_one() -> None:
    found = one(
        candidate("p", POSITIVE, 6.0),
        candidate("above", NEGATIVE, 10.0),
        candidate("near", DROPPED, 5.6),
        candidate("below", IGNORED, 5.4),
        candidate("last", NEGATIVE, 0.0),
    )
    assert {doc_id: (suspect.kind, suspect.suggested) for doc_id, suspect in found.items()} == {
        "above": (FALSE_NEGATIVE, 1),
        "near": (FALSE_NEGATIVE, 1),
    }
    assert found["above"].suspicion == pytest.approx(0.4)
    assert found["near"].suspicion == pytest.approx(-0.04)
    assert "the first stage puts it 0.40 above the best positive" in found["above"].why
    assert "0.04 below" in found["near"].why


def test_equal_scores_that_a_run_lowered_make_nobody_suspicious() -> None:
    lowered = strictly_decreasing([2.5] * 20).tolist()
    found = one(*(candidate(f"d{i}", POSITIVE if i == 15 else NEGATIVE, score) for i, score in enumerate(lowered)))
    assert found == {}


def test_what_is_suggested_would_be_a_positive() -> None:
    candidates = (
        candidate("p", POSITIVE, 5.0, relevance=2),
        candidate("r", POSITIVE, 4.0, judged=False, decision="teacher"),
        candidate("d", DROPPED, 1.0, decision=DUPLICATE),
        candidate("n", NEGATIVE, 9.0, relevance=1, judged=True),
        candidate("m", NEGATIVE, 0.0),
    )
    found = suspicions(TrainingList("q", candidates), positive_from=2)
    assert {suspect.candidate.doc_id: suspect.suggested for suspect in found} == {"r": 0, "d": 2, "n": 2}
    listed = suspicious([TrainingList("q", candidates)], positive_from=2)
    assert {suspect.candidate.doc_id: suspect.suggested for suspect in listed} == {"r": 0, "d": 2, "n": 2}


def test_the_teacher_decides_where_there_is_one() -> None:
    found = one(
        candidate("p", POSITIVE, 0.0, 5.0), candidate("a", NEGATIVE, 10.0, 0.0), candidate("b", NEGATIVE, 5.0, 10.0)
    )
    assert set(found) == {"b"}
    assert found["b"].suspicion == pytest.approx(0.5)
    assert "the teacher" in found["b"].why


def test_the_best_of_several_positives_counts() -> None:
    positives = candidate("p1", POSITIVE, 0, 10.0), candidate("p2", POSITIVE, 0, 8.0)
    assert one(*positives, candidate("n", NEGATIVE, 0, 9.0), candidate("m", NEGATIVE, 0, 0.0)) == {}


def test_a_positive_that_the_teacher_puts_low_may_be_wrong() -> None:
    others = candidate("n", NEGATIVE, 9.0, 4.0), candidate("m", NEGATIVE, 8.0, 0.0)
    found = one(candidate("p1", POSITIVE, 1.0, 10.0), candidate("p2", POSITIVE, 1.0, 1.0), *others)
    assert [(doc_id, s.kind, s.suggested) for doc_id, s in found.items()] == [("p2", WRONG_POSITIVE, 0)]
    # Judged by a person: half of 1 - 0.1.
    assert found["p2"].suspicion == pytest.approx(0.45)
    # The first stage puts many a positive low: that is why there is a second one.
    assert one(*(c._replace(teacher_score=None) for c in (candidate("p", POSITIVE, 5.0), *others))).keys() == {"n", "m"}


def test_what_a_rule_made_is_always_looked_at() -> None:
    found = one(
        candidate("p", POSITIVE, 0, 10.0),
        candidate("r", POSITIVE, 0, 9.0, judged=False, decision="teacher"),
        candidate("d", DROPPED, 0, 2.0, decision=DUPLICATE),
        candidate("n", NEGATIVE, 0, 0.0),
    )
    assert {doc_id: (s.kind, s.suggested) for doc_id, s in found.items()} == {
        "r": (RELABELLED, 0),
        "d": (NEAR_DUPLICATE, 1),
    }
    assert found["r"].suspicion == pytest.approx(0.1)
    assert "'teacher'" in found["r"].why


def test_a_relabelled_positive_excuses_no_other_candidate() -> None:
    relabelled = candidate("r", POSITIVE, 0, 10.0, judged=False, decision="teacher")
    others = candidate("p", POSITIVE, 0, 6.0), candidate("n", NEGATIVE, 0, 9.0), candidate("m", NEGATIVE, 0, 0.0)
    assert one(relabelled, *others)["n"].suspicion == pytest.approx(0.3)


def test_the_words_of_a_decision_are_the_rules_own() -> None:
    """A word that only looks like a rule's is none."""
    others = candidate("p", POSITIVE, 10.0), candidate("m", NEGATIVE, 0.0)
    assert one(*others, candidate("d", DROPPED, 2.0, decision="not a duplicate")) == {}


def test_judgements_count_and_reviews_are_not_asked_again() -> None:
    plain = candidate("p", POSITIVE, 5.0), candidate("n", NEGATIVE, 10.0), candidate("m", NEGATIVE, 0.0)
    judged = [c._replace(judged=True) for c in plain]
    assert one(*judged)["n"].suspicion == pytest.approx(one(*plain)["n"].suspicion / 2)
    below = plain[0], candidate("n", NEGATIVE, 4.8), candidate("top", DROPPED, 10.0), plain[2]
    assert one(*below)["n"].suspicion == pytest.approx(-0.02)
    # Below the positive, too, a judgement makes it less suspicious.
    assert one(*(c._replace(judged=True) for c in below))["n"].suspicion == pytest.approx(-0.03)
    assert one(*(c._replace(decision=REVIEW) for c in plain)) == {}


@pytest.mark.parametrize(
    "candidates",
    [
        [],
        [candidate("n", NEGATIVE, 1.0), candidate("m", NEGATIVE, 2.0)],
        [candidate("p", POSITIVE, 0.0, rank=0), candidate("n", NEGATIVE, 1.0), candidate("m", NEGATIVE, 2.0)],
        [candidate("p", POSITIVE, 1.0), candidate("n", NEGATIVE, 1.0)],
    ],
    ids=["empty", "no positive", "missed positive", "all the same"],
)
def test_where_nothing_is_known_nothing_is_suspicious(candidates: list[Candidate]) -> None:
    assert one(*candidates) == {}


def many(count: int) -> list[TrainingList]:
    """Lists with a false negative each, above the positive by 1, 2, …"""
    return [
        TrainingList(
            f"q{i:03}",
            (
                candidate("p", POSITIVE, 0, 50.0),
                candidate("n", NEGATIVE, 0, 51.0 + i % 40),
                candidate("low", NEGATIVE, 0, 0.0),
                candidate("top", NEGATIVE, 0, 100.0, decision=REVIEW),
            ),
        )
        for i in range(count)
    ]


def test_the_worst_come_first_and_order_does_not_matter() -> None:
    lists = many(90)
    found = suspicious(lists, 30)
    assert len(found) == 30
    assert [s.suspicion for s in found] == sorted((s.suspicion for s in found), reverse=True)
    # Of 90 lists, the gaps 40 and 39 … are there twice each, those of up to 10 three times.
    assert [s.query_id for s in found[:4]] == ["q039", "q079", "q038", "q078"]
    assert found[0].suspicion == pytest.approx(0.4)
    shuffled = random.Random(0).sample(lists, len(lists))
    assert suspicious(shuffled, 30) == found
    assert suspicious(lists, 1000)[:30] == found


def test_no_kind_crowds_out_another() -> None:
    marked = candidate("d", DROPPED, 0, 1.0, decision=DUPLICATE)
    lists = [*many(50), TrainingList("x", (candidate("p", POSITIVE, 0, 5.0), marked, candidate("n", NEGATIVE, 0, 0.0)))]
    found = suspicious(lists, 10)
    assert len(found) == 10
    assert [s.kind for s in found].count(NEAR_DUPLICATE) == 1
    assert {s.kind for s in found} <= set(KINDS)
    assert suspicious([], 10) == []
