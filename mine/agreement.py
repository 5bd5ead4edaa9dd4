"""Whether the teachers and the first stage agree."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any

from secondstage.files import fingerprint
from secondstage.lists import Candidate, TrainingList

from .suspicion import is_labelled

# A rank correlation is computed for so many lists, drawn by their ids.
CORRELATED = 1000


class Agreement:
    """How often the teachers and the first stage put a labelled positive first, and how alike they order a list."""

    def __init__(self) -> None:
        self.lists = self.teacher_first = self.first_stage_first = 0
        # The lists whose digests are the lowest: a sample that does not depend on their order.
        self.sample: list[tuple[float, str, float]] = []

    def add(self, found: TrainingList) -> None:
        """Look at one more list."""
        known = [c for c in found.candidates if c.teacher_score is not None and c.rank]
        if len(known) < 2:
            return
        if any(map(is_labelled, known)):
            self.lists += 1
            self.teacher_first += is_labelled(max(known, key=lambda c: (c.teacher_score or 0.0, -c.rank)))
            self.first_stage_first += is_labelled(min(known, key=lambda c: c.rank))
        key = -int(fingerprint(found.query_id)[:12], 16)
        if len(self.sample) < CORRELATED or key > self.sample[0][0]:
            tau = _kendall(known)
            if tau is not None:
                push = heapq.heappush if len(self.sample) < CORRELATED else heapq.heappushpop
                push(self.sample, (key, found.query_id, tau))

    def record(self) -> dict[str, Any]:
        """Counts, and the correlation of a sample; none if no list has scores of a teacher."""
        if not self.lists and not self.sample:
            return {"agreement": None}
        record: dict[str, Any] = {"lists": self.lists, "teacher_first": self.teacher_first}
        record |= {"first_stage_first": self.first_stage_first, "kendall": None}
        taus = sorted(tau for _, _, tau in self.sample)
        if taus:
            median = taus[len(taus) // 2]
            record["kendall"] = {"lists": len(taus), "mean": round(math.fsum(taus) / len(taus), 6), "median": median}
        return {"agreement": record}


def _kendall(candidates: Sequence[Candidate]) -> float | None:
    """Kendall's tau-b of teacher scores and ranks; none where all scores, or all ranks, are the same."""
    from scipy.stats import kendalltau

    scores, ranks = [candidate.teacher_score for candidate in candidates], [-candidate.rank for candidate in candidates]
    if len(set(scores)) < 2 or len(set(ranks)) < 2:
        return None
    result: Any = kendalltau(scores, ranks)
    return round(float(result.statistic), 6)
