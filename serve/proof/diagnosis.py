"""Why did a query fail? It fails if no relevant document is among the first of the pipeline's list.

Every failed query gets one cause, the first of these that applies:

- `first_stage_miss`: no relevant document is a candidate.
- `truncated`: a relevant candidate is too long for the reranker, and if its best unseen window had been scored in its
  place, the pipeline would have it among the first. All else is left as it is: if the reranker read more, long rivals
  could gain as well, so that this counts what could be won at most. Of a cascade, the last reranker is asked, about
  what it was given.
- `unjudged`: the document ranked first has no judgement, and something independent speaks for it: the first stage ranks
  it first as well (at weight 0, where that is no second opinion, the reranker does), or it is nearly the same text as a
  relevant document.
- `reranker_error`: anything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_args

from secondstage.collection import Documents, Qrels
from secondstage.duplicates import near_duplicates
from secondstage.errors import UserError
from secondstage.run import Run, rank
from secondstage.scoring import Scorer

from ..cascade import Runs
from ..fuse import fuse
from .windows import Cut, cut_off

Cause = Literal["first_stage_miss", "truncated", "unjudged", "reranker_error"]
CAUSES: tuple[Cause, ...] = get_args(Cause)


class Reader(Scorer, Protocol):
    """A scorer that says how much of a pair it reads.

    Attributes:
        tokenizer: of the transformers library.
        max_length: tokens of a pair, special tokens included.
        overhead: how many of them are neither query nor document.
    """

    tokenizer: Any
    max_length: int

    @property
    def overhead(self) -> int:
        """See the class."""
        ...


class Placed(NamedTuple):
    """A candidate: its ranks, from 1, and its scores."""

    doc_id: str
    first_stage_rank: int
    reranked_rank: int
    pipeline_rank: int
    first_stage_score: float
    reranker_score: float


class Failure(NamedTuple):
    """A failed query.

    Attributes:
        query_id: the query.
        cause: why it failed.
        doc_id: the relevant document that the pipeline ranks best; of a truncation the one that its window would bring
            highest; of a miss the most relevant one.
        relevant: where it was ranked; none for a miss.
        rival: the document that the pipeline ranks first; none if the list is empty.
        blame: of a `reranker_error` "fusion" if the reranker alone has a relevant document among the first, else
            "reranker"; none for other causes.
        tokens: of the query and the relevant document, uncut; none for a miss.
        window: the stretch of the relevant document that scores best of those that the reranker did not see; none if
            it saw all.
        window_score: the reranker's score of it.
    """

    query_id: str
    cause: Cause
    doc_id: str
    relevant: Placed | None
    rival: Placed | None
    blame: Literal["fusion", "reranker"] | None = None
    tokens: int | None = None
    window: str | None = None
    window_score: float | None = None


class _Candidate(NamedTuple):
    """A relevant document among the candidates; `window` is its best unseen one, behind the score of that."""

    placed: Placed
    cut: Cut
    window: tuple[float, str] | None = None


def diagnose(
    runs: Runs,
    qrels: Qrels,
    queries: Mapping[str, str],
    documents: Documents,
    reranker: Reader,
    *,
    weight: float,
    depth: int | None = None,
    cutoff: int = 10,
    scorer: Scorer | None = None,
    label: str | None = None,
) -> list[Failure]:
    """Find the failed queries, and the cause of each.

    Args:
        runs: of the pipeline.
        qrels: the judgements. A query without a relevant document cannot fail, one without a list does.
        queries: texts by query id.
        documents: the corpus. A relevant document that it lacks is a miss.
        reranker: the one that made the runs: what it reads of a pair.
        weight: the reranker's share in the pipeline's score.
        depth: how much of each list the reranker read, as the last of a cascade; by default all.
        cutoff: how many documents are the first.
        scorer: scores the windows of all queries in one call, e.g. the reranker behind a cache; by default itself.
        label: shows a progress bar under this name.

    Returns:
        The failures, in the order of the qrels.

    Raises:
        UserError: the cutoff is less than 1.
    """
    if cutoff < 1:
        raise UserError(f"the cutoff is {cutoff}, must be at least 1")
    read = runs if depth is None else runs.read(depth)
    failed = {
        query_id: _relevant_candidates(runs, read, query_id, judged, queries[query_id], documents, reranker)
        for query_id, judged in qrels.items()
        if _relevant(judged) and _relevant(judged).isdisjoint(_list(runs.pipeline, query_id)[:cutoff])
    }
    pairs = [
        (queries[query_id], window) for query_id, found in failed.items() for c in found for window in c.cut.windows
    ]
    found_scores = (scorer or reranker).score(pairs, label=label).tolist() if pairs else []
    scores = dict(zip(pairs, found_scores, strict=True))
    failures = []
    for query_id, found in failed.items():
        best = [max(((scores[queries[query_id], w], w) for w in c.cut.windows), default=None) for c in found]
        candidates = [c._replace(window=window) for c, window in zip(found, best, strict=True)]
        failures.append(_explain(runs, read, query_id, qrels[query_id], candidates, documents, weight, cutoff))
    return failures


def _relevant(judged: Mapping[str, int]) -> set[str]:
    return {doc_id for doc_id, relevance in judged.items() if relevance > 0}


def _list(run: Run, query_id: str) -> tuple[str, ...]:
    return run[query_id].doc_ids if query_id in run else ()


def _relevant_candidates(
    runs: Runs,
    read: Runs,
    query_id: str,
    judged: Mapping[str, int],
    query: str,
    documents: Documents,
    reranker: Reader,
) -> list[_Candidate]:
    """In the pipeline's order. What the reranker did not read at all has no windows."""
    found, known = [], frozenset(_list(read.reranked, query_id))
    for doc_id in _list(runs.pipeline, query_id):
        if judged.get(doc_id, 0) > 0:
            document, most = documents.by_id(doc_id), reranker.max_length
            cut = cut_off(reranker.tokenizer, query, document, most, reranker.overhead)
            cut = cut if doc_id in known else cut._replace(windows=())
            found.append(_Candidate(_place(runs, query_id, doc_id), cut))
    return found


def _place(runs: Runs, query_id: str, doc_id: str) -> Placed:
    first, reranked, fused = (_list(run, query_id).index(doc_id) for run in runs)
    return Placed(
        doc_id,
        first_stage_rank=first + 1,
        reranked_rank=reranked + 1,
        pipeline_rank=fused + 1,
        first_stage_score=float(runs.first_stage[query_id].scores[first]),
        reranker_score=float(runs.reranked[query_id].scores[reranked]),
    )


def _explain(
    runs: Runs,
    read: Runs,
    query_id: str,
    judged: Mapping[str, int],
    candidates: Sequence[_Candidate],
    documents: Documents,
    weight: float,
    cutoff: int,
) -> Failure:
    ranked = _list(runs.pipeline, query_id)
    rival = _place(runs, query_id, ranked[0]) if ranked else None
    if not candidates or not rival:
        # Of equally relevant ones, one that there is to show.
        missed = max(judged, key=lambda doc_id: (judged[doc_id], doc_id in documents))
        return Failure(query_id, "first_stage_miss", missed, None, rival)
    ranks = [_rank_with_window(read, query_id, candidate, weight) for candidate in candidates]
    if min(ranks) <= cutoff:
        return _failure(query_id, "truncated", candidates[ranks.index(min(ranks))], rival)
    if _is_unjudged(rival, judged, documents, weight):
        return _failure(query_id, "unjudged", candidates[0], rival)
    alone = min(candidate.placed.reranked_rank for candidate in candidates)
    failure = _failure(query_id, "reranker_error", candidates[0], rival)
    return failure._replace(blame="fusion" if alone <= cutoff else "reranker")


def _failure(query_id: str, cause: Cause, candidate: _Candidate, rival: Placed) -> Failure:
    placed, cut, (score, window) = candidate.placed, candidate.cut, candidate.window or (None, None)
    return Failure(query_id, cause, placed.doc_id, placed, rival, None, cut.tokens, window, score)


def _rank_with_window(read: Runs, query_id: str, candidate: _Candidate, weight: float) -> int:
    """The rank in the pipeline with the score of the window, or with its own if that is higher.

    Scores are fused over what the reranker read, as the pipeline does it: that stands before all else.
    """
    doc_id, own = candidate.placed.doc_id, candidate.placed.reranker_score
    if candidate.window is None or candidate.window[0] <= own:
        return candidate.placed.pipeline_rank
    doc_ids, scores, retrievers = read.reranked[query_id]
    replaced = [candidate.window[0] if found == doc_id else score for found, score in zip(doc_ids, scores, strict=True)]
    reranked = Run(read.reranked.name, {query_id: rank(doc_ids, replaced, retrievers)})
    return fuse(read.first_stage.only([query_id]), reranked, weight)[query_id].doc_ids.index(doc_id) + 1


def _is_unjudged(rival: Placed, judged: Mapping[str, int], documents: Documents, weight: float) -> bool:
    if rival.doc_id in judged:
        return False
    if (rival.first_stage_rank if weight > 0 else rival.reranked_rank) == 1:
        return True
    relevant = [doc_id for doc_id in sorted(_relevant(judged)) if doc_id in documents]
    return bool(near_duplicates(documents.contents([rival.doc_id]), documents.contents(relevant)))
