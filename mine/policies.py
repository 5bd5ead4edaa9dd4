"""Policies: which candidates must not be negatives. Each is a small rule, and they add up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Literal

from secondstage.config import MineConfig
from secondstage.lists import NEGATIVE, POSITIVE, Candidate
from secondstage.run import all_tied

from .candidates import known_scores
from .decisions import MARGIN, MAX_SCORE, MIN_SCORE, SHARE, WINDOW

Against = Literal["min", "max", "mean"]
Scores = Mapping[str, float]
"""By document id; a candidate without one is not in it."""


def forbidden(candidates: Sequence[Candidate], config: MineConfig) -> dict[str, str]:
    """The policy that forbids each negative that is forbidden, by document id; the first one that does.

    Args:
        candidates: the whole list of one query, before any sampling: scores are scaled over all of it.
        config: the rank window, the bounds, and whose scores these look at.
    """
    found: dict[str, str] = {}
    for name, doc_ids in _applied(candidates, known_scores(candidates, config.scores), config):
        for doc_id in doc_ids:
            found.setdefault(doc_id, name)
    return found


def _applied(
    candidates: Sequence[Candidate], scores: Scores, config: MineConfig
) -> Iterator[tuple[str, Collection[str]]]:
    yield WINDOW, outside_window(candidates, config.from_rank, config.depth)
    if config.min_score is not None:
        yield MIN_SCORE, below(candidates, scores, config.min_score)
    if config.max_score is not None:
        yield MAX_SCORE, above(candidates, scores, config.max_score)
    if config.margin is not None:
        yield MARGIN, within_margin(candidates, scores, config.margin, config.against)
    if config.max_share is not None:
        yield SHARE, near_positive(candidates, scores, config.max_share, config.against)


def outside_window(candidates: Sequence[Candidate], from_rank: int, depth: int) -> set[str]:
    """Negatives that the first stage ranks before `from_rank` or after `depth`; what it did not find has no rank."""
    return {c.doc_id for c in candidates if c.role == NEGATIVE and c.rank and not from_rank <= c.rank <= depth}


def below(candidates: Sequence[Candidate], scores: Scores, bound: float) -> set[str]:
    """Negatives that score less than the bound."""
    return _negatives(candidates, scores, lambda score: score < bound)


def above(candidates: Sequence[Candidate], scores: Scores, bound: float) -> set[str]:
    """Negatives that score more than the bound."""
    return _negatives(candidates, scores, lambda score: score > bound)


def within_margin(candidates: Sequence[Candidate], scores: Scores, margin: float, against: Against) -> set[str]:
    """Unjudged negatives that score no less than the positive minus the margin (TopK-MarginPos, 2407.15831).

    Where no positive has a score nothing is known, and nothing is forbidden.
    """
    positive = reference(candidates, scores, against)
    if positive is None:
        return set()
    return _negatives(_unjudged(candidates), scores, lambda score: score >= positive - margin)


def near_positive(candidates: Sequence[Candidate], scores: Scores, share: float, against: Against) -> set[str]:
    """Unjudged negatives that score at least this share of the positive (TopK-PercPos, NV-Retriever, 2407.15831).

    Scores are first shifted and scaled so that the list's lowest is 0 and its highest 1: a share of a score has no
    meaning where scores may be negative, as those of a fused list are. Where no positive has a score, or all scores are
    ties, nothing is known, and nothing is near.
    """
    positive = reference(candidates, scores, against)
    values = [scores[c.doc_id] for c in candidates if c.doc_id in scores]
    if positive is None or all_tied(values):
        return set()
    low = min(values)
    threshold = low + share * (positive - low)
    return _negatives(_unjudged(candidates), scores, lambda score: score >= threshold)


def reference(candidates: Sequence[Candidate], scores: Scores, against: Against) -> float | None:
    """The lowest, highest or mean score of the positives that have one; none if none has."""
    values = [scores[c.doc_id] for c in candidates if c.role == POSITIVE and c.doc_id in scores]
    if not values:
        return None
    return {"min": min(values), "max": max(values), "mean": sum(values) / len(values)}[against]


def _unjudged(candidates: Sequence[Candidate]) -> list[Candidate]:
    """What no person judged: the word of a person counts for more than any score."""
    return [candidate for candidate in candidates if not candidate.judged]


def _negatives(candidates: Sequence[Candidate], scores: Scores, test: Callable[[float], bool]) -> set[str]:
    negatives = [c.doc_id for c in candidates if c.role == NEGATIVE and c.doc_id in scores]
    return {doc_id for doc_id in negatives if test(scores[doc_id])}
