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


def draw(
    training_list: TrainingList, *, positives: int, negatives: int, ignored: bool, rng: np.random.Generator
) -> Example:
    """Some candidates of a list, at random.

    Args:
        training_list: the list.
        positives: at most so many.
        negatives: at most so many, and as many more as there are fewer positives if only the teacher's scores count.
        ignored: whether candidates without a usable label count among the negatives: a loss on teacher scores does.
        rng: what decides.
    """
    found = list(_some(training_list.with_role(POSITIVE), positives, rng))
    pool = training_list.with_role(NEGATIVE)
    if ignored:
        pool += tuple(c for c in training_list.with_role(IGNORED) if c.teacher_score is not None)
    found += _some(pool, negatives, rng)
    return Example(
        training_list.query_id,
        tuple(candidate.doc_id for candidate in found),
        tuple(float(c.relevance) if c.role == POSITIVE else 0.0 for c in found),
        tuple(candidate.role != IGNORED for candidate in found),
        tuple(nan if c.teacher_score is None else c.teacher_score for c in found),
    )


def _some(candidates: Sequence[Candidate], count: int, rng: np.random.Generator) -> list[Candidate]:
    return [candidates[i] for i in rng.permutation(len(candidates))[:count]]
