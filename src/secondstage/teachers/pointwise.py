"""Teachers that score one pair at a time: cross-encoders, decoders, rerank APIs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from ..run import Scores
from ..scorecache import CachedScorer
from ..scoring import as_scores

Lists = Sequence[tuple[str, Sequence[str]]]


class PointwiseTeacher:
    """A teacher over a scorer of pairs, whose scores are kept."""

    def __init__(
        self,
        name: str,
        scorer: CachedScorer,
        costs: Callable[[], Mapping[str, Any]] = dict,
        *,
        gaps: bool = False,
    ) -> None:
        """Nothing is scored yet.

        Args:
            name: for errors.
            scorer: scores what was never scored before.
            costs: what else the report says.
            gaps: whether the scorer may leave pairs out: their score is NaN, and that is no fault.
        """
        self.name, self.scorer, self.costs = name, scorer, costs
        self.gaps = gaps
        self.lists = self.pairs = 0
        self.seconds = 0.0

    def score_lists(self, lists: Lists, *, label: str | None = None) -> list[Scores]:
        """Score the documents of every query; see `Teacher`. All pairs go together, so that batches are of one length.

        Raises:
            UserError: the scorer failed, or a score is not finite, and no gap.
        """
        started = time.perf_counter()
        pairs = [(query, document) for query, documents in lists for document in documents]
        try:
            scores = as_scores(self.scorer.score(pairs, label=label), len(pairs))
        finally:
            self.seconds += time.perf_counter() - started
        faults = np.isinf(scores) if self.gaps else ~np.isfinite(scores)
        if broken := int(faults.sum()):
            raise UserError(
                f"teacher {self.name}: {broken} of {len(scores)} scores are not finite, so no order can be made of "
                "them: choose another teacher or precision=fp32"
            )
        self.lists += len(lists)
        self.pairs += len(pairs)
        ends = np.cumsum([len(documents) for _, documents in lists], dtype=np.int64)
        return np.split(scores, ends[:-1]) if len(lists) else []

    def report(self) -> dict[str, Any]:
        """Lists and pairs asked for, pairs really scored (the others were kept, or came twice), costs, wall seconds."""
        return {
            **self.costs(),
            "lists": self.lists,
            "pairs": self.pairs,
            "scored": self.scorer.scored,
            "seconds": round(self.seconds, 3),
        }
