"""Fusion of the two stages: a weighted sum of their scores over the head of each list, the weight chosen on dev."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from secondstage.collection import Qrels
from secondstage.measures import evaluate, mean
from secondstage.run import Ranking, Run, all_tied
from secondstage.significance import standard_error

MEASURE = "nDCG@10"
WEIGHTS = tuple(i / 20 for i in range(21))


class Choice(NamedTuple):
    """The weight that was chosen.

    Attributes:
        weight: the reranker's share.
        value: its mean nDCG@10 on dev.
        gain: over the first stage, of the best weight.
        error: the standard error of this gain; the weight is 0 where the gain is not larger.
        curve: the mean nDCG@10 of every weight tried.
    """

    weight: float
    value: float
    gain: float
    error: float
    curve: dict[float, float]


def fuse(first: Run, reranked: Run, weight: float, depth: int | None = None) -> Run:
    """Order the head of each list by `weight` × the reranker's score + (1 − `weight`) × the first stage's.

    Both are standardised over the head, as neither has a scale of its own. Ties keep the first stage's order, so that
    a weight of 0, or a reranker that gives every document the same score, is exactly the first stage.

    Args:
        first: the first stage's lists.
        reranked: the same candidates, or more, in the reranker's order.
        weight: from 0 to 1.
        depth: how long the head is; what lies below keeps its order after it. None means the whole list.
    """

    def fused(query_id: str, head: Ranking) -> npt.NDArray[np.float64]:
        second = standardise(reranked[query_id].scores_of(head.doc_ids))
        return weight * second + (1 - weight) * standardise(head.scores)

    return reordered(first, fused, depth, "pipeline")


def reordered(
    first: Run, score: Callable[[str, Ranking], npt.NDArray[np.float64]], depth: int | None, name: str
) -> Run:
    """Order the first `depth` documents of each list by `score(query_id, head)`; the others follow as they were."""
    scores: list[npt.NDArray[np.float64]] = []
    for query_id, ranking in first.items():
        head = score(query_id, ranking.cut(depth))
        below = np.arange(1, len(ranking.doc_ids) - len(head) + 1, dtype=np.float64)
        scores += [head, (head.min() if len(head) else 0.0) - below]
    return first.rescored(name, np.concatenate(scores) if scores else [])


def standardise(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Mean 0 and standard deviation 1. Scores that differ by no more than the nudge that breaks ties become zeros."""
    values = scores.astype(np.float64)
    if all_tied(values.tolist()):
        return np.zeros(len(values))
    scaled: npt.NDArray[np.float64] = (values - values.mean()) / values.std()
    return scaled


def choose_weight(first: Run, reranked: Run, qrels: Qrels, depth: int | None = None) -> Choice:
    """The weight with the best mean nDCG@10, its neighbours counting half: a peak that stands alone is chance.

    Of equal ones, the one nearest to the middle of the range. If the gain over the first stage is not larger than its
    standard error, dev does not show that the reranker helps, and the weight is 0: the pipeline is the first stage.
    """
    by_query = {weight: evaluate(fuse(first, reranked, weight, depth), qrels, [MEASURE])[MEASURE] for weight in WEIGHTS}
    curve = {weight: mean(values) for weight, values in by_query.items()}
    padded = np.pad(np.array(list(curve.values())), 1, mode="edge")
    smooth = np.round((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4, 9)
    best = WEIGHTS[max(range(len(WEIGHTS)), key=lambda i: (smooth[i], -abs(WEIGHTS[i] - 0.5)))]
    gains = np.array([value - by_query[0.0][query_id] for query_id, value in by_query[best].items()])
    gain = float(gains.mean())
    error = standard_error(gains)
    # Where one query alone differs, its gain is its error: rounding must not decide.
    weight = best if gain > error + 1e-9 else 0.0
    return Choice(weight, curve[weight], gain, error, curve)
