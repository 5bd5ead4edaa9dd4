"""The rule against false negatives, in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.lists import NEGATIVE, POSITIVE, Candidate
from secondstage.mine.denoise import suspicious


def candidates(*scores: tuple[str, float]) -> list[Candidate]:
    """`p…` are positives, `m…` positives that were missed, `j…` judged negatives, all others unjudged negatives."""
    found: list[Candidate] = []
    for doc_id, score in scores:
        role = POSITIVE if doc_id[0] in "pm" else NEGATIVE
        missed = doc_id[0] == "m"
        found.append(
            Candidate(
                doc_id,
                relevance=int(role == POSITIVE),
                judged=doc_id[0] in "pmj",
                retriever="qrels" if missed else "bm25",
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
def test_the_rule(scores: Sequence[tuple[str, float]], max_share: float, expected: set[str]) -> None:
    assert suspicious(candidates(*scores), max_share) == expected


lists = st.lists(st.integers(-64, 64), min_size=2, max_size=12, unique=True)


@given(lists, st.integers(0, 11), st.sampled_from([0.25, 0.5, 4]), st.integers(-1000, 1000))
def test_shift_and_scale_change_nothing(scores: list[int], positive: int, factor: float, shift: int) -> None:
    names = [f"{'p' if i == positive % len(scores) else 'n'}{i}" for i in range(len(scores))]
    before = suspicious(candidates(*zip(names, scores, strict=True)), 0.75)
    after = suspicious(candidates(*zip(names, [factor * score + shift for score in scores], strict=True)), 0.75)
    assert after == before


@given(lists, st.integers(0, 11))
def test_a_larger_share_never_finds_more(scores: list[int], positive: int) -> None:
    names = [f"{'p' if i == positive % len(scores) else 'n'}{i}" for i in range(len(scores))]
    found = [suspicious(candidates(*zip(names, scores, strict=True)), share) for share in (0.25, 0.5, 0.95, 1.5)]
    assert found[0] >= found[1] >= found[2] >= found[3]
    assert not any(name.startswith("p") for name in found[0])
    above = {name for name, score in zip(names, scores, strict=True) if score > scores[positive % len(scores)]}
    assert found[2] >= above
