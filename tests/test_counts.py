"""What the manifest says of lists, counted by hand."""

from __future__ import annotations

from collections import Counter

from secondstage.lists import DROPPED, IGNORED, NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.mine.counts import count


def candidate(role: str, decision: str, rank: int = 1, retriever: str = "bm25") -> Candidate:
    return Candidate("d", 0, False, retriever, rank, 0.0, role, decision)


MISSED = candidate(POSITIVE, "qrels", 0, "qrels")
FULL = TrainingList(
    "full",
    (
        candidate(POSITIVE, "qrels"),
        MISSED,
        candidate(POSITIVE, "review"),
        candidate(POSITIVE, "teacher"),
        candidate(POSITIVE, "judged"),
        candidate(POSITIVE, "judged", 0, "random"),
        candidate(NEGATIVE, "sampled"),
        candidate(NEGATIVE, "review"),
        candidate(NEGATIVE, "sampled", 0, "random"),
        candidate(IGNORED, "duplicate"),
        candidate(DROPPED, "duplicate"),
        candidate(DROPPED, "not sampled"),
        candidate(DROPPED, "not sampled"),
        candidate(DROPPED, "min score"),
    ),
)
SHORT = TrainingList("short", (candidate(POSITIVE, "qrels"), candidate(NEGATIVE, "sampled")))
BARE = TrainingList("bare", (MISSED, candidate(DROPPED, "share")))
BLIND = TrainingList("blind", (candidate(NEGATIVE, "review"),))
ZERO = {
    "lists": 0,
    "lists_short_of_negatives": 0,
    "lists_without_negatives": 0,
    "lists_without_positives": 0,
    "negatives_found": 0,
    "negatives_kept": 0,
    "positives": 0,
    "positives_missed_by_first_stage": 0,
}


def test_counts() -> None:
    assert count([FULL, SHORT, BARE, BLIND], 3) == ZERO | {
        "lists": 2,
        "lists_short_of_negatives": 2,
        "lists_without_negatives": 1,
        "lists_without_positives": 1,
        "negatives_found": 9 + 1 + 1 + 1,
        "negatives_kept": 3 + 1 + 1,
        "positives": 6 + 1 + 1,
        "positives_missed_by_first_stage": 2,
        "relabelled_teacher": 1,
        "relabelled_judged": 2,
        "ignored_duplicate": 1,
        "dropped_duplicate": 1,
        "dropped_not_sampled": 2,
        "dropped_min_score": 1,
        "dropped_share": 1,
    }


def test_of_no_lists_everything_is_zero() -> None:
    assert count([], 3) == ZERO
    assert count([TrainingList("empty", ())], 3) == ZERO | {"lists_without_negatives": 1, "lists_without_positives": 1}


def test_parts_add_up() -> None:
    whole = [FULL, SHORT, BARE, BLIND, FULL]
    for cut in range(6):
        assert Counter(count(whole[:cut], 4)) + Counter(count(whole[cut:], 4)) == +Counter(count(whole, 4))
