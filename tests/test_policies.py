"""Policies in closed form: which candidates must not be negatives, and which policy says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.config import MineConfig
from secondstage.lists import NEGATIVE, POSITIVE, Candidate
from secondstage.mine.candidates import known_scores
from secondstage.mine.decisions import MARGIN, MAX_SCORE, MIN_SCORE, SHARE, WINDOW
from secondstage.mine.policies import (
    Against,
    above,
    below,
    forbidden,
    near_positive,
    outside_window,
    reference,
    within_margin,
)
from secondstage.run import strictly_decreasing


def near(found: Sequence[Candidate], share: float, against: Against = "min") -> set[str]:
    return near_positive(found, known_scores(found, "first_stage"), share, against)


def candidates(*scores: tuple[str, float]) -> list[Candidate]:
    """`p…` are positives, `m…` missed ones, `j…` judged negatives, `r…` random ones, all others unjudged negatives."""
    found: list[Candidate] = []
    for doc_id, score in scores:
        role = POSITIVE if doc_id[0] in "pm" else NEGATIVE
        missed = doc_id[0] in "mr"
        found.append(
            Candidate(
                doc_id,
                relevance=int(role == POSITIVE),
                judged=doc_id[0] in "pmj",
                retriever={"m": "qrels", "r": "random"}.get(doc_id[0], "bm25"),
                rank=0 if missed else len(found) + 1,
                score=score,
                role=role,
            )
        )
    return found


TABLE: Sequence[tuple[Sequence[tuple[str, float]], float, set[str]]] = [
    # The lowest is 0, the positive 10: the threshold is 9.5, itself suspicious.
    ([("p", 10), ("a", 9.5), ("b", 9.49), ("z", 0)], 0.95, {"a"}),
    ([("p", 10), ("a", 5), ("b", 4.9), ("z", 0)], 0.5, {"a"}),
    # A negative above the positive.
    ([("a", 20), ("p", 10), ("b", 9.6), ("c", 9.4), ("z", 0)], 0.95, {"a", "b"}),
    # Scores of a fused list: from 1 to −1, the threshold is −1 + 0.95 × 2.
    ([("p", 1), ("a", 0.91), ("b", 0.89), ("z", -1)], 0.95, {"a"}),
    # All below zero: the lowest is −11, the threshold −11 + 0.95 × 10.
    ([("p", -1), ("a", -1.4), ("b", -1.6), ("z", -11)], 0.95, {"a"}),
    # Of several positives the lowest that was found decides.
    ([("p1", 10), ("a", 8), ("p2", 6), ("b", 5.8), ("c", 5.6), ("z", 0)], 0.95, {"a", "b"}),
    # A missed positive has no score: it decides nothing.
    ([("p", 10), ("a", 9.6), ("b", 9.4), ("z", 0), ("m", 0)], 0.95, {"a"}),
    ([("a", 10), ("b", 9), ("m", 0)], 0.95, set()),
    ([("a", 10), ("b", 9)], 0.95, set()),
    # What a person judged is none.
    ([("j1", 20), ("p", 10), ("j2", 9.9), ("a", 9.8), ("z", 0)], 0.95, {"a"}),
    # All scores equal: nothing is known.
    ([("p", 3), ("a", 3), ("b", 3)], 0.95, set()),
    # A share of 1 keeps all below the positive, a greater one those above it up to there.
    ([("a", 10.1), ("p", 10), ("b", 9.99), ("z", 0)], 1.0, {"a"}),
    ([("a", 16), ("b", 14), ("p", 10), ("z", 0)], 1.5, {"a"}),
    # The positive is the lowest: every negative is above it.
    ([("a", 5), ("b", 4), ("p", 3)], 0.95, {"a", "b"}),
    ([("p", 3)], 0.95, set()),
    ([], 0.95, set()),
]


@pytest.mark.parametrize(("scores", "max_share", "expected"), TABLE)
def test_the_share(scores: Sequence[tuple[str, float]], max_share: float, expected: set[str]) -> None:
    assert near(candidates(*scores), max_share) == expected


@pytest.mark.parametrize("score", [0.0, 1.0, -3.0, 12.5, 1e-40, 1e30])
@pytest.mark.parametrize("rank", [1, 16, 20])
def test_ties_say_nothing_though_a_run_lowers_each_of_them(score: float, rank: int) -> None:
    lowered = strictly_decreasing([score] * 20).tolist()
    names = [f"{'p' if i == rank else 'n'}{i}" for i in range(1, 21)]
    assert near(candidates(*zip(names, lowered, strict=True)), 0.95) == set()
    # One real difference is enough.
    apart = [*lowered[:-1], score - 1e31]
    assert near(candidates(*zip(names, apart, strict=True)), 0.95) == {*names[:-1]} - {f"p{rank}"}


lists = st.lists(st.integers(-64, 64), min_size=2, max_size=12, unique=True)


@given(lists, st.integers(0, 11), st.sampled_from([0.25, 0.5, 4]), st.integers(-1000, 1000))
def test_shift_and_scale_change_nothing(scores: list[int], positive: int, factor: float, shift: int) -> None:
    names = [f"{'p' if i == positive % len(scores) else 'n'}{i}" for i in range(len(scores))]
    before = near(candidates(*zip(names, scores, strict=True)), 0.75)
    after = near(candidates(*zip(names, [factor * score + shift for score in scores], strict=True)), 0.75)
    assert after == before


@given(lists, st.integers(0, 11))
def test_a_larger_share_never_finds_more(scores: list[int], positive: int) -> None:
    names = [f"{'p' if i == positive % len(scores) else 'n'}{i}" for i in range(len(scores))]
    found = [near(candidates(*zip(names, scores, strict=True)), share) for share in (0.25, 0.5, 0.95, 1.5)]
    assert found[0] >= found[1] >= found[2] >= found[3]
    assert not any(name.startswith("p") for name in found[0])
    above = {name for name, score in zip(names, scores, strict=True) if score > scores[positive % len(scores)]}
    assert found[2] >= above


REFERENCES: Sequence[tuple[Against, float]] = [("min", 4), ("max", 10), ("mean", 7)]


@pytest.mark.parametrize(("against", "value"), REFERENCES)
def test_of_several_positives_one_value_decides(against: Against, value: float) -> None:
    found = candidates(("p1", 10), ("a", 9), ("b", 6.5), ("p2", 4), ("c", 3), ("z", 0), ("m", 0))
    scores = known_scores(found, "first_stage")
    assert reference(found, scores, against) == value
    expected = {doc_id for doc_id, score in (("a", 9), ("b", 6.5), ("c", 3)) if score >= value - 0.5}
    assert within_margin(found, scores, 0.5, against) == expected
    assert near(found, (value - 0.5) / value, against) == expected
    rules: list[tuple[str, dict[str, Any]]] = [
        (MARGIN, {"margin": 0.5, "max_share": None}),
        (SHARE, {"max_share": (value - 0.5) / value}),
    ]
    for name, settings in rules:
        assert forbidden(found, MineConfig(against=against, **settings)) == dict.fromkeys(expected, name)


@pytest.mark.parametrize(
    ("margin", "expected"), [(0.0, {"a"}), (0.5, {"a", "b"}), (-1.0, {"a"}), (-1.1, set()), (99.0, {"a", "b", "c"})]
)
def test_the_margin(margin: float, expected: set[str]) -> None:
    """It is absolute, and what is exactly at the margin is forbidden."""
    found = candidates(("a", 11), ("p", 10), ("b", 9.5), ("j", 9.4), ("c", -5), ("r", 0), ("m", 0))
    assert within_margin(found, known_scores(found, "first_stage"), margin, "min") == expected


def test_without_a_scored_positive_margin_and_share_forbid_nothing() -> None:
    found = candidates(("a", 10), ("b", 9), ("m", 0))
    scores = known_scores(found, "first_stage")
    assert reference(found, scores, "mean") is None
    assert within_margin(found, scores, 99, "min") == near_positive(found, scores, 0.01, "min") == set()
    assert reference(found, {}, "min") is None


def test_the_window() -> None:
    found = candidates(("a", 9), ("p", 8), ("b", 7), ("j", 6), ("c", 5), ("m", 0), ("r", 0))
    assert outside_window(found, 1, 50) == set()
    assert outside_window(found, 2, 50) == {"a"}
    assert outside_window(found, 3, 4) == {"a", "c"}
    assert outside_window(found, 9, 9) == {"a", "b", "j", "c"}


def test_bounds_are_allowed_themselves_and_hold_for_what_is_judged() -> None:
    found = candidates(("a", 9), ("p", 8), ("b", 7), ("j", 6), ("c", 5), ("m", 0), ("r", 0))
    scores = known_scores(found, "first_stage")
    assert below(found, scores, 7) == {"j", "c"}
    assert above(found, scores, 6) == {"a", "b"}
    assert below(found, scores, 100) == {"a", "b", "j", "c"}  # neither a positive nor what has no score


def test_the_first_policy_that_forbids_is_named() -> None:
    found = candidates(("a", 20), ("b", 12), ("p", 10), ("c", 9.8), ("d", 9), ("e", 5), ("f", 1), ("z", 0))
    settings: dict[str, Any] = {"from_rank": 2, "depth": 7, "min_score": 2.0, "max_score": 11.0, "margin": 0.5}
    assert forbidden(found, MineConfig(**settings, max_share=0.9)) == {
        "a": "window",
        "z": "window",
        "f": "min score",
        "b": "max score",
        "c": "margin",
        "d": "share",
    }
    assert list(dict.fromkeys(forbidden(found, MineConfig(**settings, max_share=0.9)).values())) == [
        WINDOW,
        MIN_SCORE,
        MAX_SCORE,
        MARGIN,
        SHARE,
    ]
    assert forbidden(found, MineConfig(max_share=None)) == {}
    assert forbidden(found, MineConfig(max_share=0.9)) == dict.fromkeys("abcd", "share")


def test_a_teacher_scores_what_the_first_stage_did_not_find() -> None:
    """The missed positive counts, random documents have bounds, and one without a score has none."""
    scores = {"a": 0.9, "b": 0.5, "r": 0.95, "m": 1.0, "z": 0.0}
    found = candidates(("a", 1), ("b", 9), ("unscored", 5), ("z", 0), ("m", 0), ("r", 0))
    found = [c._replace(teacher_score=scores.get(c.doc_id)) for c in found]
    settings: dict[str, Any] = {"scores": "teacher", "teachers": {"t": {"model": "m"}}}
    assert forbidden(found, MineConfig(**settings, max_share=0.9)) == {"a": "share", "r": "share"}
    assert forbidden(found, MineConfig(**settings, max_share=None, max_score=0.92)) == {"r": "max score"}
    assert forbidden(found, MineConfig(max_share=0.9)) == {}


@given(
    lists,
    st.integers(0, 11),
    st.none() | st.integers(-64, 64).map(float),
    st.none() | st.integers(0, 64).map(float),
    st.none() | st.sampled_from([0.5, 0.9]),
    st.integers(1, 6),
)
def test_policies_add_up(
    scores: list[int], positive: int, low: float | None, margin: float | None, share: float | None, first: int
) -> None:
    """What all forbid together is what each forbids alone, and a positive is never among it."""
    found = candidates(*((f"{'p' if i == positive else 'n'}{i}", score) for i, score in enumerate(scores)))
    one_by_one: list[dict[str, Any]] = [
        {"from_rank": first, "max_share": None},
        {"min_score": low, "max_share": None},
        {"margin": margin, "max_share": None},
        {"max_share": share},
    ]
    alone = [set(forbidden(found, MineConfig(**settings))) for settings in one_by_one]
    together = forbidden(found, MineConfig(from_rank=first, min_score=low, margin=margin, max_share=share))
    assert set(together) == set().union(*alone)
    assert f"p{positive}" not in together
