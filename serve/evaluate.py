"""The proof: first stage, reranked and pipeline on exactly the same candidate lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secondstage.collection import Collection, Qrels
from secondstage.config import EvaluateConfig
from secondstage.errors import UserError
from secondstage.firststage import search_run
from secondstage.measures import Values, evaluate, mean
from secondstage.run import Run
from secondstage.significance import compare
from secondstage.splits import choose_answerable

from .pipeline import Pipeline

BASELINE = "first_stage"
COMPARED = ("nDCG@10", "RR@10")


def evaluate_bundle(
    collection: Collection, pipeline: Pipeline, config: EvaluateConfig, *, seed: int, folder: Path
) -> dict[str, Any]:
    """Evaluate a pipeline on the configured split and the extra ones; write the TREC runs.

    Args:
        collection: queries and qrels.
        pipeline: what is evaluated.
        config: splits and statistics.
        seed: of the resampling, and of the choice of queries.
        folder: existing; runs go to `runs/`, those of an extra split to `runs/<split>/`.

    Returns:
        What `metrics.json` holds, less the seconds of the stages.
    """
    metrics = _evaluate_split(collection, pipeline, config, config.split, seed, folder / "runs")
    if config.extra_splits:
        metrics["extra_splits"] = {
            split: _evaluate_split(collection, pipeline, config, split, seed, folder / "runs" / split)
            for split in config.extra_splits
        }
    return metrics


def _evaluate_split(
    collection: Collection, pipeline: Pipeline, config: EvaluateConfig, split: str, seed: int, folder: Path
) -> dict[str, Any]:
    qrels = choose_answerable(collection.split(split), config.max_queries, seed)
    if not qrels:
        raise UserError(f"split {split!r} of collection {collection.name!r} has no query with a relevant document")
    queries = {query_id: collection.queries[query_id] for query_id in qrels}
    runs = {run.name: run for run in pipeline.rank(queries, label=f"rerank {split}")}
    for name, part in pipeline.first_stage.parts().items():
        if len(pipeline.first_stage.parts()) > 1:
            runs[name] = search_run(part, pipeline.documents.ids, queries, pipeline.depth, name)
    for name, run in runs.items():
        run.write_trec(folder / f"{name}.trec")
    return {"split": split, "queries": len(qrels), "depth": pipeline.depth, "weight": pipeline.weight} | score_runs(
        runs, qrels, config, seed=seed, depth=pipeline.depth
    )


def score_runs(
    runs: Mapping[str, Run], qrels: Qrels, config: EvaluateConfig, *, seed: int, depth: int
) -> dict[str, Any]:
    """Means of every system, the recall ceiling, and paired comparisons against the first stage and BM25.

    The lists end at `depth`: where that is less than 50, R@50 is R@depth, as trec_eval has it for the TREC runs.

    Args:
        runs: by system; `first_stage` is the baseline.
        qrels: of queries that all have a relevant document.
        config: confidence and resamples.
        seed: of the resampling.
        depth: of the lists, the cut-off of recall.
    """
    measures = tuple(dict.fromkeys(("nDCG@10", "RR@10", "R@10", "R@50", f"R@{depth}")))
    values = {name: evaluate(run, qrels, measures) for name, run in runs.items()}
    oracle = evaluate(ideal_order(runs[BASELINE], qrels), qrels, ["nDCG@10"])
    pairs = [
        (system, baseline)
        for baseline in (BASELINE, "bm25")
        for system in ("reranked", "pipeline")
        if baseline in runs and system in runs
    ]
    return {
        "systems": {
            name: {measure: mean(by_query) for measure, by_query in found.items()} for name, found in values.items()
        },
        "ceiling": {"recall": mean(values[BASELINE][f"R@{depth}"]), "oracle_nDCG@10": mean(oracle["nDCG@10"])},
        "comparisons": {
            f"{system}_vs_{baseline}": {
                measure: _compare(values[system][measure], values[baseline][measure], config, seed)
                for measure in COMPARED
            }
            for system, baseline in pairs
        },
    }


def ideal_order(run: Run, qrels: Qrels) -> Run:
    """What a perfect reranker would make of the same lists."""
    relevance = [qrels[query_id].get(doc_id, 0) for query_id, doc_id in run.pairs()]
    return run.rescored("oracle", relevance)


def _compare(system: Values, baseline: Values, config: EvaluateConfig, seed: int) -> dict[str, Any]:
    found = compare(system, baseline, confidence=config.confidence, resamples=config.resamples, seed=seed)
    return {
        "delta": found.delta,
        f"ci{100 * config.confidence:.6g}": [found.low, found.high],
        "p": found.p,
        "wins": found.wins,
        "ties": found.ties,
        "losses": found.losses,
    }
