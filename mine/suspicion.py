"""The candidates that are most likely mislabelled, for a person to look at."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, NamedTuple

from secondstage.lists import POSITIVE, Candidate, TrainingList

from .decisions import DUPLICATE, REVIEW
from .distribution import scaled

FALSE_NEGATIVE = "false negative"
NEAR_DUPLICATE = "near duplicate"
RELABELLED = "relabelled"
WRONG_POSITIVE = "wrong positive"
KINDS = (FALSE_NEGATIVE, NEAR_DUPLICATE, RELABELLED, WRONG_POSITIVE)

# A candidate this far below the positive, in scores scaled to 0 … 1, is not suspicious any more.
NEAR = 0.05
# A positive above the middle of its list's scores is not.
LOW = 0.5
# A person's judgement is more often right than no judgement: what it takes off.
JUDGED = 0.5


class Suspect(NamedTuple):
    """A candidate, why it is suspicious, and how much.

    Attributes:
        suspicion: see `suspicions`.
        kind: one of `KINDS`.
        query_id: of its list.
        candidate: with its lineage.
        score: scaled to 0 … 1 in its list; none if it is not known.
        best: the scaled score of the best labelled positive; none if it is not known.
        scorer: "teacher" or "first stage": whose scores these are.
        suggested: the relevance that would make it right, if the suspicion is.
    """

    suspicion: float
    kind: str
    query_id: str
    candidate: Candidate
    score: float | None
    best: float | None
    scorer: str
    suggested: int

    @property
    def why(self) -> str:
        """The reason in words."""
        if self.kind == RELABELLED:
            return f"{self.kind}: the rule {self.candidate.decision!r} made it a positive"
        if self.kind == NEAR_DUPLICATE or self.score is None:
            return f"{self.kind} of a positive"
        if self.kind == WRONG_POSITIVE:
            return f"{self.kind}? the {self.scorer} puts it at {self.score:.2f} of its list's range"
        gap = self.score - (self.best or 0.0)
        place = f"{gap:.2f} above" if gap >= 0.005 else "beside" if gap > -0.005 else f"{-gap:.2f} below"
        return f"{self.kind}? the {self.scorer} puts it {place} the best positive"


def suspicions(found: TrainingList, positive_from: int = 1) -> list[Suspect]:
    """The suspicious candidates of one list; `positive_from` is the lowest relevance that makes a positive.

    Scores are the teachers' if there are any for a positive, else the first stage's, scaled to 0 … 1 in the list. Let s
    be a candidate's score, p that of the best positive that is no relabelled one. The suspicion is

    * of what is no positive (false negative): s - p, from -0.05 on; a near-duplicate rule's finding always, with 0 if
      the scores are not known;
    * of what a rule made a positive (relabelled): 1 - s;
    * of a labelled positive that a teacher puts in the lower half of its list (wrong positive): 1 - s,

    less by half its amount for a candidate that a person judged. What a person has reviewed is none.
    """
    scores, scorer = _scores(found.candidates)
    best = max(
        (s for c, s in zip(found.candidates, scores, strict=True) if s is not None and is_labelled(c)), default=None
    )
    suspects = []
    for candidate, score in zip(found.candidates, scores, strict=True):
        if candidate.decision == REVIEW:  # what a person decided is not asked again
            continue
        gap = score - best if score is not None and best is not None else None
        kind = _kind(candidate, score, gap, scorer)
        if kind is not None:
            missed = kind in (FALSE_NEGATIVE, NEAR_DUPLICATE)
            doubt = gap if missed else None if score is None else 1 - score
            suspicion = doubt or 0.0
            if candidate.judged:
                suspicion -= JUDGED * abs(suspicion)
            suggested = positive_from if missed else 0
            suspects.append(Suspect(suspicion, kind, found.query_id, candidate, score, best, scorer, suggested))
    return suspects


def is_labelled(candidate: Candidate) -> bool:
    """Whether it is a positive that a person labelled, not one that a rule made."""
    return candidate.role == POSITIVE and candidate.judged


class Suspects:
    """The most suspicious candidates of many lists: of each kind at most `limit` are held."""

    def __init__(self, limit: int = 100, positive_from: int = 1) -> None:
        self._limit, self._positive_from = limit, positive_from
        self._heaps: dict[str, list[tuple[float, tuple[str, str], Suspect]]] = {kind: [] for kind in KINDS}

    def add(self, found: TrainingList) -> None:
        """Look at one more list."""
        for suspect in suspicions(found, self._positive_from):
            heap = self._heaps[suspect.kind]
            # Ties are broken by ids, so that the order of the lists does not matter.
            entry = (suspect.suspicion, _backwards(suspect.query_id, suspect.candidate.doc_id), suspect)
            if len(heap) < self._limit:
                heapq.heappush(heap, entry)
            elif entry[:2] > heap[0][:2]:
                heapq.heapreplace(heap, entry)

    def most(self) -> list[Suspect]:
        """Up to `limit`: the kinds take turns, each with its most suspicious, so that none crowds out the others."""
        queues = [
            [entry[2] for entry in sorted(heap, reverse=True, key=lambda e: e[:2])] for heap in self._heaps.values()
        ]
        turns = [suspect for turn in range(self._limit) for queue in queues for suspect in queue[turn : turn + 1]]
        return turns[: self._limit]


def _backwards(*ids: str) -> Any:
    """A key by which the first in the alphabet is the largest."""
    return tuple((*(-ord(c) for c in text), 1) for text in ids)


def _scores(candidates: Sequence[Candidate]) -> tuple[list[float | None], str]:
    if any(candidate.teacher_score is not None and is_labelled(candidate) for candidate in candidates):
        return scaled([candidate.teacher_score for candidate in candidates]), "teacher"
    return scaled([candidate.score if candidate.rank else None for candidate in candidates]), "first stage"


def _kind(candidate: Candidate, score: float | None, gap: float | None, scorer: str) -> str | None:
    if candidate.role == POSITIVE and not candidate.judged:
        return RELABELLED
    if candidate.role == POSITIVE:
        low = scorer == "teacher" and score is not None and score < LOW
        return WRONG_POSITIVE if low else None
    if candidate.decision == DUPLICATE:
        return NEAR_DUPLICATE
    return FALSE_NEGATIVE if gap is not None and gap >= -NEAR else None
