"""The audit of lists: counts that add up, whatever the order."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from secondstage.lists import DROPPED, IGNORED, NEGATIVE, POSITIVE, ROLES, Candidate, TrainingList
from secondstage.mine.audit import audit


def positive(doc_id: str, rank: int, relevance: int = 1, **more: Any) -> Candidate:
    found = Candidate(doc_id, relevance, True, "bm25" if rank else "qrels", rank, 10.0 - rank, POSITIVE, "qrels")
    return found._replace(**more)


def other(doc_id: str, rank: int, role: str = NEGATIVE, decision: str = "sampled", **more: Any) -> Candidate:
    return Candidate(doc_id, 0, False, "bm25", rank, 10.0 - rank, role, decision)._replace(**more)


LISTS = [
    TrainingList("a", (positive("p1", 1), positive("p2", 0, 2), other("n1", 2), other("n2", 3), other("n3", 5))),
    TrainingList("b", (positive("p1", 4), other("n1", 1, DROPPED, "share"), other("n2", 2), other("n3", 5))),
    TrainingList("c", (positive("p1", 0), other("n1", 1, IGNORED, "near duplicate", retriever="dense"))),
    TrainingList("d", (positive("p1", 11), other("n1", 1, POSITIVE, "teacher", relevance=1), other("n2", 2))),
]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return audit(LISTS, negatives=3)


def test_every_candidate_is_counted_by_rule_and_by_retriever(found: dict[str, Any]) -> None:
    assert (found["lists"], found["candidates"], found["negatives_asked"]) == (4, 14, 3)
    assert found["roles"] == {"positive": 6, "negative": 6, "ignored": 1, "dropped": 1}
    rules = {(row["role"], row["decision"]): row["count"] for row in found["decisions"]}
    assert rules == {
        ("positive", "qrels"): 5,
        ("positive", "teacher"): 1,
        ("negative", "sampled"): 6,
        ("ignored", "near duplicate"): 1,
        ("dropped", "share"): 1,
    }
    assert sum(row["share"] for row in found["decisions"]) == pytest.approx(1)
    assert found["retrievers"] == [
        {"retriever": "bm25", "candidates": 11, "positive": 4, "negative": 6, "ignored": 0, "dropped": 1},
        {"retriever": "qrels", "candidates": 2, "positive": 2, "negative": 0, "ignored": 0, "dropped": 0},
        {"retriever": "dense", "candidates": 1, "positive": 0, "negative": 0, "ignored": 1, "dropped": 0},
    ]


def test_ranks_and_misses_are_those_of_labelled_positives(found: dict[str, Any]) -> None:
    positives = found["positives"]
    assert (positives["labelled"], positives["relabelled"]) == (5, 1)
    assert positives["missed"] == 2
    assert positives["lists_missed"] == 1
    ranks = {name: count for name, count in positives["ranks"].items() if count}
    assert ranks == {"1": 1, "4–10": 1, "11–20": 1}
    assert list(positives["ranks"]) == ["1", "2–3", "4–10", "11–20", "21–50", "51–100", "101+"]
    assert positives["grades"] == {"1": 4, "2": 1}
    assert positives["per_list"] == {"1": 2, "2": 2}


@pytest.mark.parametrize(
    ("rank", "band"),
    [(1, "1"), (2, "2–3"), (3, "2–3"), (4, "4–10"), (10, "4–10"), (11, "11–20"), (100, "51–100"), (101, "101+")],
)
def test_a_rank_is_in_its_band(rank: int, band: str) -> None:
    ranks = audit([TrainingList("q", (positive("p", rank),))], negatives=0)["positives"]["ranks"]
    assert {name for name, count in ranks.items() if count} == {band}


def test_shortfalls_are_counted(found: dict[str, Any]) -> None:
    # a has three negatives; b lacks one, d two; c has none.
    assert found["shortfalls"] == {"short": 2, "without": 1, "missing": 6, "by_missing": {"1": 1, "2": 1, "3": 1}}
    assert audit(LISTS, negatives=0)["shortfalls"]["missing"] == 0


def test_scaled_scores_are_counted_by_rule() -> None:
    # In the list the scores are 9, 8, 4: 0 … 1 is 1, 0.8, 0.
    lists = [TrainingList("q", (positive("p", 1), other("n", 2), other("m", 6), positive("missed", 0)))]
    rows = {row["role"]: row for row in audit(lists, negatives=2)["decisions"]}
    assert rows["positive"]["first_stage"]["mean"] == 1
    assert rows["positive"]["first_stage"]["histogram"] == [0] * 19 + [1]
    assert rows["negative"]["first_stage"]["mean"] == pytest.approx(0.4)
    assert sum(rows["negative"]["first_stage"]["histogram"]) == 2
    assert rows["negative"]["teacher"] is None


def test_each_teacher_has_its_own_scores() -> None:
    scored = [
        candidate._replace(teacher_score=float(i), teacher_scores=(float(i), None if i else 0.5))
        for i, candidate in enumerate((positive("p", 1), other("n", 2), other("m", 3)))
    ]
    found = audit([TrainingList("q", tuple(scored))], negatives=2, teachers=["large", "larger"])
    large, larger = found["teachers"]["large"], found["teachers"]["larger"]
    assert {role: sum(counts) for role, counts in large["groups"].items()} == {"positive": 1, "negative": 2}
    assert {role: sum(counts) for role, counts in larger["groups"].items()} == {"positive": 1}
    assert found["agreement"]["lists"] == 1
    assert found["agreement"]["teacher_first"] == 0
    assert [row["doc_id"] for row in found["suspicious"]] == ["m", "p", "n"]


def random_lists(count: int) -> list[TrainingList]:
    rng = random.Random(7)
    lists = []
    for i in range(count):
        candidates = [positive("p", rng.randrange(60), rng.randint(1, 3), teacher_score=rng.gauss(2, 1))]
        for j in range(rng.randrange(9)):
            role, score = rng.choice(ROLES[1:]), rng.gauss(0, 1)
            made = other(f"d{j}", j + 1, role, rng.choice("xyz"), teacher_score=score, teacher_scores=(score,))
            candidates.append(made)
        lists.append(TrainingList(f"q{i}", tuple(candidates)))
    return lists


def test_the_order_of_the_lists_does_not_matter_and_they_are_read_once() -> None:
    lists = random_lists(200)
    found = audit(iter(lists), negatives=4, teachers=["large"], limit=20)
    assert audit(reversed(lists), negatives=4, teachers=["large"], limit=20) == found
    assert len(found["suspicious"]) == 20
    assert json.loads(json.dumps(found, allow_nan=False))["lists"] == 200
    assert sum(row["count"] for row in found["decisions"]) == sum(len(item.candidates) for item in lists)


def test_no_lists_are_an_audit_of_nothing() -> None:
    found = audit([], negatives=3)
    assert (found["lists"], found["candidates"], found["decisions"], found["suspicious"]) == (0, 0, [], [])
    assert found["agreement"] is None
