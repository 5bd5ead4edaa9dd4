"""One search, from a query to its answer, as a generator: it asks for scores, and whoever drives it computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from secondstage.calibration import sigmoid
from secondstage.firststage import search_run
from secondstage.firststage.only import search_only
from secondstage.run import Ranking, Run, Scores

from .answer import Answer, Piece, Result
from .cascade import Ask, Asking, Cascaded, T, reranking
from .options import SearchOptions
from .pace import Pace, affordable
from .packing import pack
from .trace import Trace

if TYPE_CHECKING:
    from .pipeline import Pipeline

QUERY = "query"
MEASURING = "measuring"


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

    def lap(self, stage: str, milliseconds: float) -> None:
        """Add what a part of a stage took."""
        self.spent[stage] = self.spent.get(stage, 0.0) + milliseconds


def searching(pipeline: Pipeline, query: str, options: SearchOptions, watch: Watch, *, alone: bool) -> Asking[Answer]:
    """Retrieve, ask for scores, fuse and cut. The options and the query were checked; the watch runs.

    One that is not `alone` is scored together with others: what that takes says nothing of the pace of a search.
    """
    pace = _paced(pipeline, options, watch) if alone else None
    usual, since = pipeline.depths_for(options.depth), watch.elapsed()
    first = _retrieve(pipeline, query, options, max(usual[0], pipeline.depths[0]))
    watch.lap("first_stage", watch.elapsed() - since)

    there = len(first[QUERY].doc_ids)
    depth_of: Callable[[int], int] = usual.__getitem__
    if options.latency_ms is not None and pace is not None and there:
        depth_of = _within(options.latency_ms, watch, pace, [min(depth, there) for depth in usual])
    inner = reranking(first, {QUERY: query}, pipeline.documents, len(usual), depth_of)
    found = yield from _watched(inner, watch, pace, several=len(usual) > 1)
    runs = found.runs(first, pipeline.weight)
    final = (runs.first_stage if pipeline.falls_back else runs.pipeline)[QUERY]
    results = _results(pipeline, options, found, first[QUERY], final)
    context = _context(pipeline, options, results)
    watch.lap("total", watch.elapsed())
    trace = _trace(found, first[QUERY], final, watch, falls_back=pipeline.falls_back)
    # Where candidates are there and none was read, nobody knows.
    unread = trace.first and not trace.reranked
    judged = (None, True) if unread else pipeline.judged(np.stack([trace.scores, found.head[QUERY].scores]))
    return Answer(results, *judged, trace, context)


def _paced(pipeline: Pipeline, options: SearchOptions, watch: Watch) -> Pace | None:
    """The pace of the rerankers, measured now if a budget needs it and nobody did it before."""
    pace = pipeline.pace(measured=False)
    if pace is None and options.latency_ms is not None:
        since = watch.elapsed()
        pace = pipeline.pace(measured=True)
        watch.lap(MEASURING, watch.elapsed() - since)
    return pace


def _within(budget_ms: float, watch: Watch, pace: Pace, usual: Sequence[int]) -> Callable[[int], int]:
    """How deep a reranker may read, when its turn comes: what is left of the budget is for it and those after it.

    Measuring is no part of a search, and of its budget: it happens once.
    """

    def depth_of(stage: int) -> int:
        left = budget_ms + watch.spent.get(MEASURING, 0.0) - watch.elapsed()
        depth = affordable(usual[stage:], left, lambda later, pairs: pace.expected(stage + later, pairs))[0]
        if not depth:
            pace.skip(stage)
        return depth

    return depth_of


def _retrieve(pipeline: Pipeline, query: str, options: SearchOptions, depth: int) -> Run:
    """The candidates: of all documents, or of those whose fields are asked for."""
    ids, queries = pipeline.documents.ids, {QUERY: query}
    # Tokenizers are not safe in several threads.
    with pipeline.retrieving:
        if options.where is None:
            return search_run(pipeline.first_stage, ids, queries, depth)
        pipeline.fields.check(options.where)
        return search_only(pipeline.first_stage, ids, queries, pipeline.fields.matching(options.where), depth)


def _watched(inner: Asking[T], watch: Watch, pace: Pace | None, *, several: bool) -> Asking[T]:
    """The same asks; how long each was waited for goes into the watch, and into the pace."""
    watch.lap("rerank", 0.0)
    scores: Scores | None = None
    try:
        while True:
            ask: Ask = next(inner) if scores is None else inner.send(scores)
            since = watch.elapsed()
            scores = yield ask
            taken = watch.elapsed() - since
            watch.lap("rerank", taken)
            if several:
                watch.lap(f"rerank_{ask.stage + 1}", taken)
            if pace is not None:
                pace.observe(ask.stage, len(ask.pairs), taken)
    except StopIteration as done:
        value: T = done.value
        return value


def _results(
    pipeline: Pipeline, options: SearchOptions, found: Cascaded, first: Ranking, final: Ranking
) -> list[Result]:
    """The best `top_n` of the final order that reach the least score."""
    reranked = found.reranked[QUERY]
    first_ranks = {doc_id: i for i, doc_id in enumerate(first.doc_ids)}
    second_scores = dict(zip(reranked.doc_ids, reranked.scores.tolist(), strict=True))
    probabilities = dict(zip(reranked.doc_ids, pipeline.reranker.probabilities(reranked.scores), strict=True))
    surely = {
        doc_id: sigmoid(second_scores[doc_id]).item() if probability is None else probability
        for doc_id, probability in probabilities.items()
    }
    results: list[Result] = []
    for doc_id, score, retriever in zip(*final, strict=True):
        if options.min_score is not None and surely.get(doc_id, -1.0) < options.min_score:
            continue
        if len(results) == options.top_n:
            break
        document = pipeline.documents.by_id(doc_id)
        results.append(
            Result(
                rank=len(results) + 1,
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


def _context(pipeline: Pipeline, options: SearchOptions, results: list[Result]) -> list[Piece] | None:
    if options.pack_tokens is None:
        return None
    return pack(results, options.pack_tokens, pipeline.count_tokens)


def _trace(found: Cascaded, first: Ranking, final: Ranking, watch: Watch, *, falls_back: bool) -> Trace:
    head = found.head[QUERY].doc_ids
    return Trace(
        depth=len(head),
        milliseconds=watch.spent,
        first=list(first.doc_ids),
        final=list(final.doc_ids),
        reranked=list(head),
        scores=found.reranked[QUERY].scores_of(head).tolist(),
        fell_back=falls_back or (bool(first.doc_ids) and not head),
        first_scores=first.scores.tolist(),
    )
