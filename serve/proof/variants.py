"""The same pipeline in other forms: exported copies of its reranker, and trainings with other seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from secondstage.errors import UserError
from secondstage.measures import evaluate, mean
from secondstage.reranker import keep_scores
from secondstage.run import Run
from secondstage.scoring import rerank
from secondstage.significance import compare

from ..cascade import Runs
from ..depth import finite
from ..fuse import MEASURE, fuse
from ..pipeline import Pipeline
from .queries import QuerySet
from .systems import open_reranker


def exports(
    pipeline: Pipeline, tested: QuerySet, runs: Runs, folders: Mapping[str, str], scores: Path, **statistics: Any
) -> dict[str, Any]:
    """What the pipeline loses with each copy of its reranker, on the same lists."""
    own = evaluate(runs.pipeline, tested.qrels, [MEASURE])[MEASURE]
    found = {}
    for name, folder in folders.items():
        other = pipeline.with_scorer(keep_scores(open_reranker(pipeline, folder), scores))
        run = other.rerank(runs.first_stage, tested.queries, label=f"export {name}").pipeline
        result = compare(evaluate(run, tested.qrels, [MEASURE])[MEASURE], own, **statistics)
        found[name] = {
            "queries": result.queries,
            "delta": result.delta,
            "low": finite(result.low),
            "high": finite(result.high),
        }
    return found


def replicates(
    pipeline: Pipeline, tested: QuerySet, runs: Runs, bundles: tuple[str, ...], scores: Path
) -> dict[str, Any] | None:
    """How much the result varies over trainings with other seeds, each with its own weight; this one is counted in.

    Raises:
        UserError: a folder is no bundle, or searches other documents.
    """
    if not bundles:
        return None
    first = mean(evaluate(runs.first_stage, tested.qrels, [MEASURE])[MEASURE])
    others = [_pipeline_of(bundle, pipeline, tested, runs.first_stage, scores) for bundle in bundles]
    means = [mean(evaluate(run, tested.qrels, [MEASURE])[MEASURE]) for run in (runs.pipeline, *others)]
    return {
        "count": len(means),
        "mean": fmean(means),
        "sd": stdev(means),
        "min": min(means),
        "max": max(means),
        "gains": [value - first for value in means],
    }


def _pipeline_of(bundle: str, pipeline: Pipeline, tested: QuerySet, first: Run, scores: Path) -> Run:
    other = Pipeline.load(Path(bundle).expanduser())
    if missing := sum(doc_id not in other.documents for doc_id in {doc_id for _, doc_id in first.pairs()}):
        raise UserError(
            f"evaluate.replicates: {bundle} lacks {missing} of the documents that this pipeline found: give bundles of "
            "the same collection"
        )
    scorer = keep_scores(other.reranker, scores)
    reranked = rerank(scorer, first, tested.queries, pipeline.documents, label=f"replicate {Path(bundle).parent.name}")
    return fuse(first, reranked, other.weight, other.depth)
