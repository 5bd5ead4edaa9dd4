"""Which negatives are probably unlabelled positives: those that the first stage puts near the positive."""

from __future__ import annotations

from collections.abc import Sequence

from secondstage.lists import NEGATIVE, POSITIVE, Candidate


def suspicious(candidates: Sequence[Candidate], max_share: float) -> set[str]:
    """The negatives that score at least `max_share` of the positive (TopK-PercPos, NV-Retriever, 2407.15831).

    Scores are first shifted and scaled so that the list's lowest is 0 and its highest 1: a share of a score has no
    meaning where scores may be negative, as those of a fused list are. With several positives the lowest that was
    found decides. Where the first stage found none, nothing is known, and nothing is suspicious. A negative that a
    person judged is none of these.

    Args:
        candidates: the whole list of one query, before any sampling.
        max_share: of the positive's scaled score.

    Returns:
        Document ids.
    """
    scores = [candidate.score for candidate in candidates if candidate.rank]
    positives = [candidate.score for candidate in candidates if candidate.rank and candidate.role == POSITIVE]
    if not positives:
        return set()
    low, high = min(scores), max(scores)
    threshold = low + max_share * (min(positives) - low)
    if high == low:
        return set()
    return {
        candidate.doc_id
        for candidate in candidates
        if candidate.role == NEGATIVE and not candidate.judged and candidate.score >= threshold
    }
