"""The same pipeline in other forms: exported copies of its reranker, and trainings with other seeds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from secondstage.backends import EngineReranker
from secondstage.backends.record import RECORD, exported_graph, write_record
from secondstage.compute import Precision
from secondstage.errors import UserError
from secondstage.measures import evaluate, mean
from secondstage.pairmodel import PairModel
from secondstage.reranker import keep_scores
from secondstage.run import Run
from secondstage.scoring import rerank
from secondstage.significance import compare

from ..cascade import Runs
from ..depth import finite
from ..fuse import MEASURE, fuse
from ..pipeline import Pipeline
from .beside import load_bundle
from .queries import QuerySet
from .systems import open_reranker


def exports(
    pipeline: Pipeline, tested: QuerySet, runs: Runs, folders: Mapping[str, str], scores: Path, **statistics: Any
) -> dict[str, Any]:
    """What the pipeline loses with each copy of its reranker, on the same lists; or the reranker alone, if it is more.

    Other engines order by the reranker alone; and with a small weight the pipeline shows nothing of what a copy loses.

    Raises:
        UserError: a copy is not there, or nothing here can score it.
    """
    own = {name: evaluate(run, tested.qrels, [MEASURE])[MEASURE] for name, run in _orders(runs).items()}
    found = {}
    for name, folder in folders.items():
        with _opened(pipeline, folder) as model:
            other = pipeline.with_scorer(keep_scores(model, scores))
            made = _orders(other.rerank(runs.first_stage, tested.queries, label=f"export {name}"))
        results = {
            order: compare(evaluate(run, tested.qrels, [MEASURE])[MEASURE], own[order], **statistics)
            for order, run in made.items()
        }
        order, result = min(results.items(), key=lambda item: item[1].delta)
        found[name] = {
            "order": order,
            "queries": result.queries,
            "delta": result.delta,
            "low": finite(result.low),
            "high": finite(result.high),
        }
    return found


def _orders(runs: Runs) -> dict[str, Run]:
    return {"pipeline": runs.pipeline, "reranked": runs.reranked}


@contextmanager
def _opened(pipeline: Pipeline, copy: str) -> Iterator[PairModel]:
    """A copy as it will be served: its graph by the engine where it has one, or else its weights by torch."""
    folder = Path(copy).expanduser()
    found = exported_graph(folder)
    if found is None:
        yield open_reranker(pipeline, copy)
        return
    engine, graph = found
    precision: Precision = "auto" if engine.endswith("-int8") else "fp32"
    if graph == folder:  # an engine of a bundle, which says itself what it was made from
        own = pipeline.reranker.origin[0] if pipeline.reranker.origin else ""
        yield EngineReranker.open(Path(own), graph, engine, precision=precision)
        return
    with tempfile.TemporaryDirectory(prefix="secondstage-export-") as temporary:
        place = Path(temporary) / engine
        shutil.copytree(graph, place, ignore=shutil.ignore_patterns(RECORD))
        # What is there is scored, whatever became of it since it was exported.
        write_record(place, engine, folder, {})
        yield EngineReranker.open(folder, place, engine, precision=precision)


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
    other = load_bundle(Path(bundle).expanduser())
    if missing := sum(doc_id not in other.documents for doc_id in {doc_id for _, doc_id in first.pairs()}):
        raise UserError(
            f"evaluate.replicates: {bundle} lacks {missing} of the documents that this pipeline found: give bundles of "
            "the same collection"
        )
    scorer, label = keep_scores(other.reranker, scores), f"replicate {Path(bundle).parent.name}"
    if other.cascade:  # its last reranker reads what those before it leave
        return other.with_scorer(scorer).rerank(first, tested.queries, label=label).pipeline
    reranked = rerank(scorer, first, tested.queries, pipeline.documents, label=label)
    return fuse(first, reranked, other.weight, other.depth)
