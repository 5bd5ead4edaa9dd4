"""What one step takes of a training list: some of its candidates, with what the losses compare their scores with."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import NamedTuple

import numpy as np

from secondstage.lists import IGNORED, NEGATIVE, POSITIVE, Candidate, TrainingList


class Example(NamedTuple):
    """One list of a step; all tuples are as long as `doc_ids`.

    Attributes:
        query_id: the query.
        doc_ids: its documents, the positives first.
        labels: their relevance, 0 of a negative.
        labelled: whether losses on labels see it: those that are ignored have a teacher's score at most.
        teacher: the teacher's scores, NaN where there is none.
    """

    query_id: str
    doc_ids: tuple[str, ...]
    labels: tuple[float, ...]
    labelled: tuple[bool, ...]
    teacher: tuple[float, ...]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(query id, document id) pairs."""
        return [(self.query_id, doc_id) for doc_id in self.doc_ids]


class Shape(NamedTuple):
    """What is drawn of a list.

    Attributes:
        positives: at most so many.
        negatives: at most so many.
        ignored: whether candidates whose label is not to be trusted are drawn among the negatives if a teacher scored
            them: for losses on teacher scores.
    """

    positives: int
    negatives: int
    ignored: bool = False

    def teaches(self, training_list: TrainingList) -> bool:
        """Whether a draw has two candidates at least, and losses something to compare.

        That is a positive and a negative, or with `ignored` any two that a teacher scored: an unlabelled query's.
        """
        found, pool = training_list.with_role(POSITIVE), self._pool(training_list)
        scored = sum(candidate.teacher_score is not None for candidate in (*found, *pool))
        labelled = found and training_list.with_role(NEGATIVE)
        drawn = min(self.positives, len(found)) + min(self.negatives, len(pool))
        return drawn > 1 and bool(labelled or (self.ignored and scored > 1))

    def draw(self, training_list: TrainingList, rng: np.random.Generator) -> Example:
        """Some candidates of a list at random, as many as there are up to the numbers wanted."""
        found = _some(training_list.with_role(POSITIVE), self.positives, rng)
        found += _some(self._pool(training_list), self.negatives, rng)
        return Example(
            training_list.query_id,
            tuple(candidate.doc_id for candidate in found),
            tuple(float(candidate.relevance) if candidate.role == POSITIVE else 0.0 for candidate in found),
            tuple(candidate.role != IGNORED for candidate in found),
            tuple(nan if candidate.teacher_score is None else candidate.teacher_score for candidate in found),
        )

    def _pool(self, training_list: TrainingList) -> tuple[Candidate, ...]:
        """What negatives are drawn from."""
        ignored = training_list.with_role(IGNORED) if self.ignored else ()
        return training_list.with_role(NEGATIVE) + tuple(c for c in ignored if c.teacher_score is not None)


def _some(candidates: Sequence[Candidate], count: int, rng: np.random.Generator) -> list[Candidate]:
    return [candidates[i] for i in rng.permutation(len(candidates))[:count]]
