"""One search, from a query to its answer, as a generator: it asks for scores, and whoever drives it computes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from secondstage.firststage import search_run
from secondstage.run import Ranking, Scores

from .answer import Answer, Result
from .cascade import Ask, Asking, Cascaded, T, reranking
from .options import SearchOptions
from .trace import Trace

if TYPE_CHECKING:
    from .pipeline import Pipeline

QUERY = "query"


class Watch:
    """Milliseconds by stage of one search.

    Attributes:
        spent: what each stage took.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._start = clock, clock()
        self.spent: dict[str, float] = {}

    def elapsed(self) -> float:
        """Milliseconds since the search began."""
        return 1000 * (self._clock() - self._start)

    def lap(self, stage: str, since: float) -> None:
        """Add what passed since `since`, which `elapsed` gave."""
        self.spent[stage] = self.spent.get(stage, 0.0) + self.elapsed() - since


def searching(pipeline: Pipeline, query: str, options: SearchOptions) -> Asking[Answer]:
    """Retrieve, ask for scores, fuse and cut. The options and the query were checked."""
    watch = Watch(pipeline.clock)
    depths = pipeline.depths_for(options.depth)
    first = search_run(pipeline.first_stage, pipeline.documents.ids, {QUERY: query}, max(depths[0], pipeline.depths[0]))
    watch.lap("first_stage", 0.0)
    inner = reranking(first, {QUERY: query}, pipeline.documents, len(depths), lambda stage: depths[stage])
    found = yield from _watched(inner, watch, several=len(depths) > 1)
    runs = found.runs(first, pipeline.weight)
    fell_back = pipeline.falls_back or not len(found.head[QUERY].doc_ids)
    final = runs.first_stage[QUERY] if pipeline.falls_back else runs.pipeline[QUERY]
    results = _results(pipeline, options, found, first[QUERY], final)
    watch.spent["total"] = watch.elapsed()
    head = found.head[QUERY]
    scores = found.reranked[QUERY].scores_of(head.doc_ids)
    trace = Trace(
        len(head.doc_ids),
        watch.spent,
        list(first[QUERY].doc_ids),
        list(final.doc_ids),
        list(head.doc_ids),
        scores.tolist(),
        fell_back,
    )
    return Answer(results, *pipeline.judged(np.stack([scores, head.scores])), trace)


def _watched(inner: Asking[T], watch: Watch, *, several: bool) -> Asking[T]:
    """The same asks; how long each was waited for goes into the watch."""
    watch.spent["rerank"] = 0.0
    scores: Scores | None = None
    try:
        while True:
            ask: Ask = next(inner) if scores is None else inner.send(scores)
            since = watch.elapsed()
            scores = yield ask
            watch.lap("rerank", since)
            if several:
                watch.lap(f"rerank_{ask.stage + 1}", since)
    except StopIteration as done:
        value: T = done.value
        return value


def _results(
    pipeline: Pipeline, options: SearchOptions, found: Cascaded, first: Ranking, final: Ranking
) -> list[Result]:
    """The best `top_n` of the final order."""
    reranked = found.reranked[QUERY]
    first_ranks = {doc_id: i for i, doc_id in enumerate(first.doc_ids)}
    second_scores = dict(zip(reranked.doc_ids, reranked.scores.tolist(), strict=True))
    probabilities = dict(zip(reranked.doc_ids, pipeline.reranker.probabilities(reranked.scores), strict=True))
    results = []
    for i, (doc_id, score, retriever) in enumerate(zip(*final.cut(options.top_n), strict=True), 1):
        document = pipeline.documents.by_id(doc_id)
        results.append(
            Result(
                rank=i,
                doc_id=doc_id,
                title=document.title,
                text=document.text,
                score=float(score),
                reranker_score=second_scores.get(doc_id),
                first_stage_rank=first_ranks[doc_id] + 1,
                first_stage_score=float(first.scores[first_ranks[doc_id]]),
                retriever=retriever,
                probability=probabilities.get(doc_id),
            )
        )
    return results
