"""The systems that are compared, all on exactly the same candidate lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from secondstage.compute import Precision, set_seed
from secondstage.config import EvaluateConfig
from secondstage.firststage import search_run
from secondstage.pairmodel import PairModel
from secondstage.remote import RemoteReranker, keep_remote_scores
from secondstage.reranker import keep_scores
from secondstage.rerankers import Kind, load_reranker
from secondstage.run import Run
from secondstage.scoring import Constant, Random, Scorer, rerank
from secondstage.splits import choose_queries

from ..depth import ideal_order
from ..pipeline import Pipeline
from .queries import QuerySet

BASELINE = "first_stage"


class Start(NamedTuple):
    """The model that training started from, as it was before: the baseline that tuning must beat.

    Attributes:
        model: its name.
        max_length: tokens of a pair.
        seed: of the head, where it got a new one.
        kind: of its score.
        instruction: of a decoder's prompt; none for the usual one.
    """

    model: str
    max_length: int
    seed: int
    kind: Kind = "classification"
    instruction: str | None = None


def run_systems(
    pipeline: Pipeline, tested: QuerySet, config: EvaluateConfig, start: Start | None, *, seed: int, scores: Path
) -> dict[str, Run]:
    """Rank the queries of a test set by every system.

    The untuned model, further rerankers and the API cost as much as the pipeline itself, or money: they see only
    `baseline_queries` of the queries.

    Args:
        pipeline: first stage, reranker and fusion.
        tested: the queries.
        config: which systems.
        start: the untuned model; none leaves it out.
        seed: of the random reranker and of the choice of queries.
        scores: the folder where scores are kept.

    Returns:
        Runs by the system's name, the first stage's first.
    """
    label = tested.split
    ranked = pipeline.rank(tested.queries, label=f"rerank {label}")
    first = ranked.first_stage
    runs = {BASELINE: first, "reranked": ranked.reranked, "pipeline": ranked.pipeline}

    def reranked(name: str, scorer: Scorer, run: Run = first) -> None:
        runs[name] = rerank(scorer, run, tested.queries, pipeline.documents, name=name, label=f"{name} {label}")

    # Through the pipeline's own path, fusion included: it must come out as it went in.
    runs["identity"] = (
        pipeline.with_scorer(Constant(), everywhere=True).rerank(first, tested.queries).pipeline.named("identity")
    )
    if any(runs["identity"][query_id].doc_ids != first[query_id].doc_ids for query_id in first):
        raise RuntimeError("an identity reranker changed the first stage's order: no figure here can be trusted")
    reranked("random", Random(seed))
    runs["oracle"] = ideal_order(first, tested.qrels)
    for name, part in pipeline.first_stage.parts().items():
        if len(pipeline.first_stage.parts()) > 1:
            runs[name] = search_run(part, pipeline.documents.ids, tested.queries, pipeline.depths[0], name)
    sample = first.only(choose_queries(tested.queries, config.baseline_queries, seed))
    for name, scorer in _further(pipeline, config, start, scores, seed):
        reranked(name, scorer, sample)
    return runs


def open_reranker(pipeline: Pipeline, model: str, start: Start | None = None) -> PairModel:
    """Load another reranker, computing as the pipeline's own does; one that training started from as it did."""
    own = pipeline.reranker
    precision: Precision = own.origin[1] if own.origin else "auto"
    return load_reranker(
        model,
        kind=start.kind if start else None,
        instruction=start.instruction if start else None,
        max_length=start.max_length if start else None,
        batch_tokens=own.batch_tokens,
        precision=precision,
    )


def _further(
    pipeline: Pipeline, config: EvaluateConfig, start: Start | None, scores: Path, seed: int
) -> Iterator[tuple[str, Scorer]]:
    if start is not None and config.untuned:
        set_seed(start.seed)  # a new head is drawn as training drew it
        yield "untuned", keep_scores(open_reranker(pipeline, start.model, start), scores, start.seed)
    for name, model in config.rerankers.items():
        set_seed(seed)  # of a head, should the model lack one
        yield name, keep_scores(open_reranker(pipeline, model), scores, seed)
    if config.remote is not None:
        yield "remote", keep_remote_scores(RemoteReranker(config.remote), scores)
