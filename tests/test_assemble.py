"""One training list, from candidates to decisions: the order of the rules, and what holds for any input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.config import MineConfig
from secondstage.lists import DROPPED, IGNORED, NEGATIVE, POSITIVE, ROLES, TrainingList
from secondstage.mine.assemble import assemble
from secondstage.mine.candidates import label
from secondstage.mine.counts import count
from secondstage.mine.decisions import FALSE_NEGATIVE_RULES
from secondstage.run import Ranking, rank

POLICIES = ("window", "min score", "max score", "margin", "share")
DECISIONS = ("qrels", "review", "sampled", "not sampled", *FALSE_NEGATIVE_RULES, *POLICIES)
TEACHER: dict[str, Any] = {"teachers": {"t": {"model": "m"}, "u": {"model": "n"}}}


def ten() -> Ranking:
    """Ten documents that score 10 to 1."""
    return rank([f"d{i}" for i in range(10)], [10.0 - i for i in range(10)], ["bm25"] * 10)


def assembled(
    judged: Mapping[str, int],
    *,
    seed: int = 13,
    query_id: str = "q",
    reviewed: Mapping[str, int] | None = None,
    drawn: Sequence[str] = (),
    evidence: Mapping[str, Any] | None = None,
    **keys: Any,
) -> TrainingList:
    config = MineConfig(**keys)
    candidates = label(ten(), judged, positive_from=config.positive_from, reviewed=reviewed, drawn=drawn)
    return assemble(query_id, candidates, config, seed=seed, **(evidence or {}))


def by_role(found: TrainingList) -> dict[str, str]:
    """Role and decision of each document, e.g. "negative: sampled"."""
    return {c.doc_id: f"{c.role}: {c.decision}" for c in found.candidates}


def ids(found: TrainingList, role: str) -> list[str]:
    return [candidate.doc_id for candidate in found.with_role(role)]


def test_every_candidate_has_a_decision() -> None:
    # The lowest of the list scores 1, the positive 9: at a share of 0.75 what scores 7 or more is near it.
    found = assembled({"d1": 1, "missed": 2, "d3": 0}, max_share=0.75, negatives=6)
    assert by_role(found) == {
        "d0": "dropped: share",
        "d1": "positive: qrels",
        "d2": "dropped: share",
        **dict.fromkeys(["d3", "d4", "d5", "d6", "d7", "d8", "d9"], "negative: sampled"),
        "missed": "positive: qrels",
    } | {doc_id: "dropped: not sampled" for doc_id in ids(found, DROPPED) if doc_id > "d2"}
    assert len(ids(found, NEGATIVE)) == 6


@pytest.mark.parametrize(("against", "value"), [("min", 5), ("max", 9), ("mean", 7)])
def test_of_several_positives_the_one_that_is_asked_for_decides_every_rule(against: str, value: float) -> None:
    """The teacher scores as the first stage does: 10 to 1, of which the positives have 9 and 5."""
    evidence = {"teacher": {f"d{i}": (10.0 - i, (10.0 - i, None)) for i in range(10)}}
    rules: list[tuple[str, dict[str, Any], float]] = [
        ("margin", {"margin": 1.5}, value - 1.5),
        ("share", {"max_share": 0.5}, 1 + 0.5 * (value - 1)),
        ("teacher", {"false_negatives": {"teacher_share": 0.5}}, 1 + 0.5 * (value - 1)),
    ]
    for name, rule, threshold in rules:
        keys = {"max_share": None, "false_negatives": {"teacher": "keep"}, **rule, **TEACHER}
        found = by_role(assembled({"d1": 1, "d5": 1}, evidence=evidence, against=against, **keys))
        assert found == {"d1": "positive: qrels", "d5": "positive: qrels"} | {
            f"d{i}": "negative: sampled" if 10 - i < threshold else f"dropped: {name}" for i in (0, 2, 3, 4, 6, 7, 8, 9)
        }


def test_a_short_list_is_not_filled_up() -> None:
    found = assembled({"d1": 1, "missed": 2, "d3": 0}, max_share=0.75)
    assert ids(found, NEGATIVE) == ["d3", "d4", "d5", "d6", "d7", "d8", "d9"]
    assert count([found], 16)["lists_short_of_negatives"] == 1
    drawn = assembled({"d1": 1, "d3": 0}, max_share=0.75, drawn=["r1", "r2", "r3"], random_share=0.125)
    assert ids(drawn, NEGATIVE) == ["d3", "d4", "d5", "d6", "d7", "d8", "d9", "r1", "r2"]
    assert by_role(drawn)["r3"] == "dropped: not sampled"


def test_a_list_may_lack_negatives() -> None:
    found = assembled({"d9": 1})  # everything else is above the positive
    assert ids(found, NEGATIVE) == []
    assert ids(found, DROPPED) == [f"d{i}" for i in range(9)]


def test_several_graded_positives_stay_one_list() -> None:
    found = assembled({"d0": 3, "d4": 1, "x": 2}, max_share=None)
    assert [(c.doc_id, c.relevance) for c in found.with_role(POSITIVE)] == [("d0", 3), ("d4", 1), ("x", 2)]
    assert len(found.candidates) == 11


def test_a_grade_below_the_lowest_is_no_negative() -> None:
    found = assembled({"d0": 3, "d4": 1, "x": 2, "y": 1}, max_share=None, positive_from=2)
    assert ids(found, POSITIVE) == ["d0", "x"]
    assert by_role(found)["d4"] == "ignored: judged"
    assert "y" not in by_role(found)


def test_the_rules_come_in_their_order() -> None:
    """d1 is a positive that the teacher gives 0.8."""
    teacher = {f"d{i}": (value, (value, None)) for i, value in enumerate([0.9, 0.8, 0.1, 0.0, 0.1, 0.1, 0.79, 0.1])}
    evidence = {"teacher": teacher, "twins": {("d1", "d6"): 0.95, ("d1", "d7"): 0.95}, "elsewhere": {"d8": 2, "d0": 1}}
    rules = {"judged": "relabel", "teacher": "drop", "duplicate": "ignore"}
    keys: dict[str, Any] = {"max_share": None, "from_rank": 4, "random_share": 0.1, "false_negatives": rules}
    found = assembled({"d1": 1}, evidence=evidence, reviewed={"d5": 0, "d9": 3}, drawn=["r"], **keys, **TEACHER)
    assert by_role(found) == {
        "d0": "positive: judged",  # also the teacher, and before the window
        "d1": "positive: qrels",
        "d2": "dropped: window",
        "d3": "negative: sampled",
        "d4": "negative: sampled",
        "d5": "negative: review",
        "d6": "dropped: teacher",  # also the text
        "d7": "ignored: duplicate",
        "d8": "positive: judged",
        "d9": "positive: review",
        "r": "negative: sampled",
    }
    assert {c.doc_id: c.relevance for c in found.with_role(POSITIVE)} == {"d0": 1, "d1": 1, "d8": 2, "d9": 3}
    scores = [(c.teacher_score, c.teacher_scores) for c in found.candidates]
    assert scores[:3] == [(0.9, (0.9, None)), (0.8, (0.8, None)), (0.1, (0.1, None))]
    assert scores[8:] == [(None, (None, None))] * 3


def test_what_a_rule_relabels_does_not_move_the_policies() -> None:
    """d6 scores 4: as a positive it would forbid what scores more than 3.85."""
    evidence = {"elsewhere": {"d6": 1}}
    plain, relabelled = assembled({"d0": 1}), assembled({"d0": 1}, evidence=evidence)
    assert ids(plain, NEGATIVE) == [*ids(relabelled, NEGATIVE)[:5], "d6", *ids(relabelled, NEGATIVE)[5:]]


def test_all_that_a_review_confirmed_is_kept_and_counts() -> None:
    reviewed = {"d2": 0, "d5": 0, "d8": 0}
    found = assembled({"d1": 1}, reviewed=reviewed, negatives=5, sampler="top")
    assert ids(found, NEGATIVE) == ["d2", "d3", "d4", "d5", "d8"]
    found = assembled({"d1": 1}, reviewed=reviewed, negatives=2, max_share=0.01, from_rank=9)
    assert ids(found, NEGATIVE) == ["d2", "d5", "d8"]
    assert ids(assembled({"d1": 1}, reviewed={"d1": 0}, max_share=None), POSITIVE) == []


def test_the_draw_of_a_list_depends_on_seed_and_query_alone() -> None:
    draws = [ids(assembled({"d0": 1}, seed=seed, negatives=4), NEGATIVE) for seed in (1, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert len(set(map(tuple, draws))) == 3
    others = [ids(assembled({"d0": 1}, query_id=f"q{i}", negatives=4), NEGATIVE) for i in range(9)]
    assert len(set(map(tuple, others))) > 5


doc_ids = st.sampled_from([f"d{i}" for i in range(14)])
actions = st.sampled_from(["keep", "drop", "ignore", "relabel"])
numbers = st.none() | st.sampled_from([-1.0, 0.0, 0.5, 0.9, 5.0])
keys = st.fixed_dictionaries(
    {
        "negatives": st.integers(1, 12),
        "positive_from": st.integers(1, 2),
        "from_rank": st.integers(1, 4),
        "depth": st.integers(5, 12),
        "max_share": st.none() | st.sampled_from([0.5, 0.95]),
        "margin": numbers,
        "against": st.sampled_from(["min", "max", "mean"]),
        "scores": st.sampled_from(["first_stage", "teacher"]),
        "sampler": st.sampled_from(["top", "uniform", "band", "stratified"]),
        "random_share": st.sampled_from([0.0, 0.3]),
        "quotas": st.sampled_from([{}, {"bm25": 0.5}]),
        "false_negatives": st.fixed_dictionaries({"teacher": actions, "duplicate": actions, "judged": actions}),
    }
)
inputs = st.fixed_dictionaries(
    {
        "judged": st.dictionaries(doc_ids, st.integers(0, 3), max_size=5),
        "reviewed": st.dictionaries(doc_ids, st.integers(0, 3), max_size=3),
        "drawn": st.lists(doc_ids, max_size=5),
        "evidence": st.fixed_dictionaries(
            {
                "teacher": st.dictionaries(doc_ids, numbers.map(lambda value: (value, (value,)))),
                "twins": st.dictionaries(st.tuples(doc_ids, doc_ids), st.sampled_from([0.9, 1.0])),
                "elsewhere": st.dictionaries(doc_ids, st.integers(1, 3), max_size=3),
            }
        ),
    }
)


@settings(max_examples=150, deadline=None)
@given(keys, st.lists(inputs, min_size=1, max_size=3))
def test_what_holds_for_any_list(rules: dict[str, Any], queries: list[dict[str, Any]]) -> None:
    made = {i: assembled(query_id=f"q{i}", **query, **rules, **TEACHER) for i, query in enumerate(queries)}
    for i, query in reversed(list(enumerate(queries))):
        found = made[i]
        # Neither the order of the queries nor what else is mined matters.
        assert assembled(query_id=f"q{i}", **query, **rules, **TEACHER) == found
        all_ids = [c.doc_id for c in found.candidates]
        assert sorted(all_ids) == sorted(doc_id for role in ROLES for doc_id in ids(found, role))
        assert len(set(all_ids)) == len(all_ids)
        assert all_ids[:10] == list(ten().doc_ids)
        labels = query["judged"] | query["reviewed"]
        relevant = {doc_id for doc_id, relevance in labels.items() if relevance >= rules["positive_from"]}
        assert relevant <= set(ids(found, POSITIVE))
        assert not relevant & {doc_id for role in (NEGATIVE, IGNORED, DROPPED) for doc_id in ids(found, role)}
        kept = found.with_role(NEGATIVE)
        assert len(kept) <= max(rules["negatives"], sum(c.decision == "review" for c in kept))
        for c in found.candidates:
            assert c.decision in DECISIONS
            assert c.decision != "review" or c.doc_id in query["reviewed"]
            assert (c.role == DROPPED) or c.decision not in (*POLICIES, "not sampled")
            assert c.role != NEGATIVE or c.decision in ("sampled", "review")
            assert c.role != IGNORED or c.decision in FALSE_NEGATIVE_RULES
            assert c.role != POSITIVE or c.relevance >= 1
            assert not (labels.get(c.doc_id) == 0 and c.decision in ("teacher", "duplicate", "margin", "share"))


@pytest.mark.parametrize("most", [1, 2, None])
def test_a_relabelled_document_counts_as_it_is_told(most: int | None) -> None:
    """The manifest's counts are those of the list; d1 is its positive."""
    values = [0.99, 0.8, 0.95, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0]
    evidence = {"teacher": {f"d{i}": (value, (value,)) for i, value in enumerate(values)}}
    actions = {"teacher": "relabel", "relabel_most": most}
    found = assembled({"d1": 2}, evidence=evidence, false_negatives=actions, max_share=None, **TEACHER)
    expected = most or sum(value > 0.8 for value in values)
    counts = count([found], 16)
    assert counts["relabelled_teacher"] == expected == len(ids(found, POSITIVE)) - 1
    assert {c.relevance for c in found.with_role(POSITIVE)} == {2}
    assert counts["negatives_found"] == 9
