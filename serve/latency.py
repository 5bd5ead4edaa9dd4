"""How long one search takes, on this machine, one query at a time."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence

import numpy as np

from secondstage.firststage import answered
from secondstage.pairmodel import PairModel

from .depth import Timing
from .pipeline import Pipeline


def time_searches(pipeline: Pipeline, queries: Sequence[str], depths: Sequence[int]) -> Mapping[int, Timing]:
    """Search each query at each depth: retrieval, reranking and fusion.

    The depths take turns, so that all meet the same load. Queries for which a first stage of the kind run has no list
    are left out: nothing is searched or reranked for them.

    Args:
        pipeline: its reranker computes every score; nothing is looked up.
        queries: texts.
        depths: how many candidates are reranked.
    """
    seconds: dict[int, list[float]] = {depth: [] for depth in depths}
    queries = _timed(pipeline, queries)
    uncached = pipeline.with_scorer(fresh(pipeline.reranker))
    uncached.rank({"query": queries[0]}, depth=depths[0])  # the first call sets up memory and threads
    for query in queries:
        for depth in depths:
            uncached = pipeline.with_scorer(fresh(pipeline.reranker))
            start = time.perf_counter()
            uncached.rank({"query": query}, depth=depth)
            seconds[depth].append(time.perf_counter() - start)
    return {depth: Timing(*(1000 * np.quantile(taken, (0.5, 0.95))).tolist()) for depth, taken in seconds.items()}


def fresh(reranker: PairModel) -> PairModel:
    """The same model, which has kept no tokens of documents: else a depth would profit from the one before it."""
    reranker = copy.copy(reranker)
    reranker.remember_documents()
    return reranker


def time_first_stage(pipeline: Pipeline, queries: Sequence[str]) -> Timing:
    """Retrieve each query's candidates, without reranking them; of the same queries as `time_searches`."""
    taken = []
    for query in _timed(pipeline, queries):
        start = time.perf_counter()
        pipeline.first_stage.search([query], pipeline.depths[0])
        taken.append(time.perf_counter() - start)
    return Timing(*(1000 * np.quantile(taken, (0.5, 0.95))).tolist())


def _timed(pipeline: Pipeline, queries: Sequence[str]) -> Sequence[str]:
    """Those that can be searched; one that cannot where none can, so that there is a figure at all."""
    return answered(pipeline.first_stage, queries) or queries[:1]
