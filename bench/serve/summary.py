"""What the measurements come to: pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secondstage.run import Scores


def latency(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile, in milliseconds."""
    p50, p95 = (1000 * np.quantile(seconds, (0.5, 0.95))).tolist()
    return {"p50_ms": round(p50, 1), "p95_ms": round(p95, 1)}


def within(seconds: Sequence[float], milliseconds: float) -> float:
    """The share that took no longer."""
    return round(float(np.mean(1000 * np.asarray(seconds) <= milliseconds)), 3)


def growth(samples: Sequence[tuple[float, int]], *, warm: float = 0.25, window: float = 0.1) -> float:
    """How much memory grew from after the warm-up to the end, as a share: 0.05 is five percent more.

    Medians of two windows are compared: what a batch takes while it is computed is no growth.

    Args:
        samples: (share of the work that was done, from 0 to 1; bytes held), of one process.
        warm: the share of the work after which the first window begins.
        window: the length of both windows, as a share of the work.
    """
    # The window may lie between two samples of a short run: then the one after it stands in.
    start = [held for done, held in samples if warm <= done <= warm + window]
    start = start or [held for done, held in samples if done > warm][:1]
    end = [held for done, held in samples if done >= 1 - window] or [held for _, held in samples][-1:]
    return round(statistics.median(end) / statistics.median(start) - 1, 4) if start else 0.0


def ranks_kept(reference: Mapping[str, Scores], other: Mapping[str, Scores], tolerance: float) -> float:
    """The share of neighbours in the reference's order, apart by more than the tolerance, that `other` orders alike.

    Args:
        reference: `[candidates]` scores by query.
        other: scores of the same candidates.
        tolerance: neighbours that are nearer may change places.

    Returns:
        From 0 to 1; 1 where no neighbours are that far apart.
    """
    kept = counted = 0
    for query_id, scores in reference.items():
        order = np.argsort(-scores, kind="stable")
        apart = -np.diff(scores[order]) > tolerance
        alike = -np.diff(other[query_id][order]) > 0
        counted += int(apart.sum())
        kept += int((apart & alike).sum())
    return kept / counted if counted else 1.0


def largest_difference(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """The largest difference of two scores of the same pair; 0 of none."""
    return float(np.abs(one - other).max(initial=0.0))
