"""How deep to rerank: quality, ceiling and time over the depths, the knee, and the depth to recommend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from secondstage.collection import Qrels
from secondstage.measures import Values, evaluate, mean
from secondstage.run import Ranking, Run
from secondstage.significance import compare, standard_error

from .fuse import MEASURE, choose_weight, fuse, reordered

DEPTHS = (5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000)
# What a shallower depth may lose of the best one's value.
TOLERANCE = 0.01
# A page of results: reranking fewer than are shown is never recommended.
SHALLOWEST = 10


class Timing(NamedTuple):
    """How long one search takes at a depth, in milliseconds."""

    p50: float
    p95: float


class Curve(NamedTuple):
    """What reranking to different depths is worth, over one set of queries.

    Attributes:
        depths: rising.
        weights: the reranker's share at each depth.
        pipeline: the values of nDCG@10 by query, for each depth; below the depth the first stage's order stands.
        reranked: their mean without fusion.
        oracle: of a perfect reranker.
        recall: the share of relevant documents among the candidates.
        first_stage: the mean of the first stage, which no depth changes.
    """

    depths: tuple[int, ...]
    weights: tuple[float, ...]
    pipeline: tuple[Values, ...]
    reranked: tuple[float, ...]
    oracle: tuple[float, ...]
    recall: tuple[float, ...]
    first_stage: float

    @property
    def means(self) -> tuple[float, ...]:
        """The pipeline's mean at each depth."""
        return tuple(mean(values) for values in self.pipeline)


def depths_up_to(deepest: int) -> tuple[int, ...]:
    """The usual depths below `deepest`, and this one."""
    return (*(depth for depth in DEPTHS if depth < deepest), deepest)


def sweep(first: Run, reranked: Run, qrels: Qrels, depths: Sequence[int], weight: float | None) -> Curve:
    """Rerank to every depth.

    Args:
        first: the first stage's lists, as long as the deepest depth.
        reranked: the same candidates, in the reranker's order.
        qrels: of the queries that count, each with a relevant document.
        depths: rising.
        weight: the reranker's share; none means chosen anew for each depth, on these queries.
    """
    weights = [choose_weight(first, reranked, qrels, depth).weight if weight is None else weight for depth in depths]
    names = [f"R@{depth}" for depth in depths]
    recall = evaluate(first, qrels, names)

    def value(run: Run) -> Values:
        return evaluate(run, qrels, [MEASURE])[MEASURE]

    return Curve(
        tuple(depths),
        tuple(weights),
        tuple(value(fuse(first, reranked, share, depth)) for share, depth in zip(weights, depths, strict=True)),
        tuple(mean(value(fuse(first, reranked, 1.0, depth))) for depth in depths),
        tuple(mean(value(ideal_order(first, qrels, depth))) for depth in depths),
        tuple(mean(recall[name]) for name in names),
        mean(value(first)),
    )


def ideal_order(first: Run, qrels: Qrels, depth: int | None = None) -> Run:
    """What a perfect reranker would make of the heads of the same lists."""

    def relevance(query_id: str, head: Ranking) -> npt.NDArray[np.float64]:
        judged = qrels.get(query_id, {})
        return np.array([max(judged.get(doc_id, 0), 0) for doc_id in head.doc_ids], dtype=np.float64)

    return reordered(first, relevance, depth, "oracle")


def knee(depths: Sequence[int], values: Sequence[float]) -> int:
    """Where more depth stops paying: the point furthest above the chord from the first to the best (Kneedle, 2011).

    Of a curve that nowhere rises above its chord, the depth with the best value, the shallowest of equals.
    """
    x, y = np.array(depths, dtype=np.float64), np.array(values, dtype=np.float64)
    best = int(np.argmax(np.round(y, 9)))
    if best == 0:
        return depths[0]
    x, y = x[: best + 1], y[: best + 1]
    # Rounded, so that a straight line is nowhere above itself.
    above = np.round((y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0]), 9)
    return depths[int(np.argmax(above)) if above.max() > 0 else best]


def best(depths: Sequence[int], values: Sequence[float]) -> int:
    """The depth with the highest value; of equals the shallowest."""
    return depths[int(np.argmax(np.round(values, 9)))]


def recommend(curve: Curve, p95_ms: Sequence[float] | None = None, budget_ms: float | None = None) -> int:
    """The shallowest depth, a page of results at least, that surely loses no more than one percent of the best.

    Surely: the mean loss against the best depth, and its standard error on top, stay below. Only depths that keep the
    latency budget are looked at; if none does, the shallowest is recommended, and the gate will say it is too slow.

    Args:
        curve: over the depths.
        p95_ms: the 95th percentile of a search's time at each depth, in milliseconds.
        budget_ms: what this may be.
    """
    depths, means = curve.depths, curve.means
    allowed = [i for i in range(len(depths)) if depths[i] >= SHALLOWEST] or [len(depths) - 1]
    if p95_ms is not None and budget_ms is not None:
        allowed = [i for i in allowed if p95_ms[i] <= budget_ms] or allowed[:1]
    top = depths.index(best([depths[i] for i in allowed], [means[i] for i in allowed]))
    return depths[next(i for i in allowed if _loss(curve.pipeline[i], curve.pipeline[top]) <= TOLERANCE * means[top])]


def _loss(values: Values, top: Values) -> float:
    """The mean loss against the best, and its standard error on top; one query's loss is its own error."""
    losses = np.array([top[query_id] - values[query_id] for query_id in top])
    return float(losses.mean()) + standard_error(losses)


def describe(curve: Curve, timings: Mapping[int, Timing], recommended: int, **statistics: Any) -> dict[str, Any]:
    """A curve for `metrics.json`; `statistics` go to the comparison of the best depth with the deepest."""
    means, top = curve.means, best(curve.depths, curve.means)
    decay = compare(curve.pipeline[-1], curve.pipeline[curve.depths.index(top)], **statistics)
    timed = all(depth in timings for depth in curve.depths)
    return {
        "queries": len(curve.pipeline[0]),
        "depths": list(curve.depths),
        "weights": list(curve.weights),
        "pipeline": list(means),
        "reranked": list(curve.reranked),
        "oracle": list(curve.oracle),
        "recall": list(curve.recall),
        "first_stage": curve.first_stage,
        "p50_ms": [timings[depth].p50 for depth in curve.depths] if timed else None,
        "p95_ms": [timings[depth].p95 for depth in curve.depths] if timed else None,
        "best": top,
        "knee": knee(curve.depths, means),
        "recommended": recommended,
        "decay": {
            "from": top,
            "to": curve.depths[-1],
            "delta": decay.delta,
            "low": finite(decay.low),
            "high": finite(decay.high),
        },
    }


def finite(value: float) -> float | None:
    """JSON has neither infinity nor not-a-number."""
    return value if np.isfinite(value) else None
