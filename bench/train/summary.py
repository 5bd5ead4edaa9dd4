"""What the measurements come to: pure functions of the values by query, the same queries in all."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from secondstage.measures import Values
from secondstage.significance import compare

Interval = tuple[float, float, float]
"""A mean difference, and the bounds of its 95 % interval."""


def over_seeds(seeds: Sequence[Values]) -> Values:
    """Each query's mean over the seeds."""
    return {query_id: statistics.fmean(values[query_id] for values in seeds) for query_id in seeds[0]}


def average(seeds: Sequence[Values]) -> float:
    """The mean over queries and seeds."""
    return round(statistics.fmean(over_seeds(seeds).values()), 4)


def difference(system: Sequence[Values], baseline: Sequence[Values]) -> Interval:
    """System minus baseline, both being means over their seeds, paired by query."""
    found = compare(over_seeds(system), over_seeds(baseline), seed=13)
    return round(found.delta, 4), round(found.low, 4), round(found.high, 4)


def gain_kept(student: float, teacher: float, first_stage: float) -> float | None:
    """The share of the teacher's gain over the first stage that the student keeps; none where there is no gain."""
    return round((student - first_stage) / (teacher - first_stage), 3) if teacher > first_stage else None


def ratio(ours: Sequence[float], peer: Sequence[float]) -> float:
    """The median of the ratios of rounds that took turns: a machine whose speed drifts is fair to both."""
    return round(statistics.median(a / b for a, b in zip(ours, peer, strict=True)), 3)


def minutes_to_reach(value: float, by_minutes: Mapping[float, float]) -> float | None:
    """The shortest of the budgets tried, in minutes, that reaches a value; none if none does."""
    return min((minutes for minutes, found in by_minutes.items() if found >= value), default=None)
