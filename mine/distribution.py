"""Scores scaled within their list, and histograms that grow with what they are given."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from secondstage.run import all_tied

BINS = 20
# The finest bins are 2 to this power wide: finer than any difference between scores that one looks at.
FINEST = -10
# So many bins that are not empty are kept, and so many in a row are shown.
KEPT, SHOWN = 1024, 24
# The share of the values at either end that the shown bins need not reach: one outlier must not flatten the rest.
TAIL = 0.005


def scaled(scores: Sequence[float | None]) -> list[float | None]:
    """Scores of one list, shifted and scaled so that the lowest is 0 and the highest 1.

    Scores of different queries can be compared only so. None stays none; where all are ties, nothing is known.
    """
    known = [score for score in scores if score is not None and math.isfinite(score)]
    if all_tied(known):
        return [None] * len(scores)
    low, high = min(known), max(known)
    return [(score - low) / (high - low) if score is not None and math.isfinite(score) else None for score in scores]


def bin_of(share: float) -> int:
    """The index of one of `BINS` equal bins of 0 … 1; 1 belongs to the last."""
    return min(int(share * BINS), BINS - 1)


class Histogram:
    """Counts by group, in bins of one width: a power of two that doubles whenever a group needs more than `KEPT`.

    The range of raw scores is not known beforehand: logits, probabilities and grades differ. The result depends on the
    values alone, not on their order.
    """

    def __init__(self) -> None:
        self._exponent = FINEST
        self._groups: dict[str, Counter[int]] = {}

    def add(self, group: str, value: float) -> None:
        """Count one finite value."""
        counts = self._groups.setdefault(group, Counter())
        counts[math.floor(math.ldexp(value, -self._exponent))] += 1
        while len(self._groups[group]) > KEPT:
            self._double()

    def shown(self) -> dict[str, Any]:
        """`edges` and, by group, the counts between them; what lies outside is counted at the ends."""
        coarse = copy.deepcopy(self)
        low, high = coarse._middle()
        while high - low >= SHOWN:
            coarse._double()
            low, high = coarse._middle()
        groups = {}
        for name in sorted(coarse._groups):
            counts = groups[name] = [0] * (high - low + 1)
            for i, count in coarse._groups[name].items():
                counts[min(max(i, low), high) - low] += count
        edges = [math.ldexp(i, coarse._exponent) for i in range(low, high + 2)] if groups else []
        return {"edges": edges, "groups": groups}

    def _double(self) -> None:
        """Bins of twice the width: 2 i and 2 i + 1 become i."""
        self._exponent += 1
        for name, counts in self._groups.items():
            merged: Counter[int] = Counter()
            for i, count in counts.items():
                merged[i >> 1] += count
            self._groups[name] = merged

    def _middle(self) -> tuple[int, int]:
        """The outermost bins, but for the tails."""
        counts = sorted(sum(self._groups.values(), Counter[int]()).items())
        spare = TAIL * sum(count for _, count in counts)
        return _past(counts, spare), _past(counts[::-1], spare)


def _past(counts: Sequence[tuple[int, int]], spare: float) -> int:
    """The first bin at which more than `spare` values have been passed; 0 if there are none."""
    passed = 0
    for i, count in counts:
        passed += count
        if passed > spare:
            return i
    return 0
