"""Is the difference between two systems real? Paired, per query: an interval and a test."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .measures import Values


class Comparison(NamedTuple):
    """System minus baseline, over the same queries.

    Attributes:
        delta: the mean difference.
        low: the lower bound of the bootstrap interval.
        high: its upper bound.
        p: two-sided, of the paired randomisation test.
        wins: queries on which the system is better.
        ties: queries on which both are equal.
        losses: queries on which the baseline is better.
    """

    delta: float
    low: float
    high: float
    p: float
    wins: int
    ties: int
    losses: int


# Differences below this are rounding, not wins.
EQUAL = 1e-12
# Resampled matrices are computed in blocks of at most so many numbers, to bound memory on large query sets.
BLOCK = 1 << 22


def compare(
    system: Values, baseline: Values, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 13
) -> Comparison:
    """Compare two systems query by query.

    The interval is the percentile bootstrap over queries (Efron 1979; Sakai 2006 for retrieval), the test is Fisher's
    randomisation test, which flips the sign of each query's difference (Smucker, Allan and Carterette 2007).

    Args:
        system: values by query id.
        baseline: values for the same query ids.
        confidence: of the interval.
        resamples: of each procedure.
        seed: makes both repeatable.

    Raises:
        ValueError: the two do not cover the same queries, or there are none.
    """
    if system.keys() != baseline.keys() or not system:
        raise ValueError("a paired comparison needs the same queries on both sides, and at least one")
    differences = np.array([system[query_id] - baseline[query_id] for query_id in sorted(system)])
    differences[np.abs(differences) < EQUAL] = 0.0
    delta = float(differences.mean())
    n = len(differences)
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // n)
    blocks = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    means = np.concatenate([differences[rng.integers(0, n, (size, n))].mean(axis=1) for size in blocks])
    flipped = np.concatenate([rng.choice((-1.0, 1.0), (size, n)) @ differences / n for size in blocks])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    # The observed assignment is one of the possible ones: without it, p could be 0 (Phipson and Smyth 2010).
    p = (1 + int((np.abs(flipped) >= abs(delta) - EQUAL).sum())) / (1 + resamples)
    return Comparison(
        delta,
        float(low),
        float(high),
        p,
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences < 0).sum()),
    )
