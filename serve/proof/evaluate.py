"""The proof: every system on exactly the same candidate lists, and all that a sceptic asks about the difference.

bundle + collection ──► query sets ──► systems ──► runs ──► standing, slices, leaks, depth,  ──► metrics.json
                        (queries.py)  (systems.py)          confidence, diagnosis, cases         gate, report
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from secondstage.collection import Collection
from secondstage.config import EvaluateConfig, ServeConfig
from secondstage.files import write_json
from secondstage.leakage import Met, met_in_training
from secondstage.measures import mean
from secondstage.progress import say
from secondstage.reranker import keep_scores
from secondstage.splits import choose_queries

from ..barren import find_barren
from ..cascade import Runs
from ..depth import Timing, depths_up_to, describe, sweep
from ..fuse import MEASURE
from ..latency import time_first_stage, time_searches
from ..pipeline import Pipeline
from .beside import load_bundle
from .cases import differences, quantiles, worst, write_per_query
from .confidence import answerability, calibration
from .diagnosis import diagnose
from .failures import summarise
from .gate import judge
from .leaks import leakage
from .queries import QuerySet, given_slices, left_out, query_set
from .report import render_report
from .slices import Slices, slices
from .standing import Standing, comparisons, gain_kept, measures_at, part, standing, systems
from .systems import Start, run_systems
from .variants import exports, replicates

CUTOFF = 10
# Queries of the first timing at every depth; at the pipeline's own depth there are more.
TIMED_PER_DEPTH = 8


class Bench(NamedTuple):
    """What every part of an evaluation needs.

    Attributes:
        collection: queries and qrels.
        pipeline: what is evaluated; its scores are kept in files.
        config: splits, systems and statistics.
        serve: how the pipeline was configured.
        start: the model that training started from; none if there was no training.
        seed: of every choice and resample.
        met: what training met.
        folder: where runs are written.
        scores: where scores are kept.
        on_dev: whether the reranker's calibration was fitted on the dev split.
    """

    collection: Collection
    pipeline: Pipeline
    config: EvaluateConfig
    serve: ServeConfig
    start: Start | None
    seed: int
    met: Met
    folder: Path
    scores: Path
    on_dev: bool

    @property
    def statistics(self) -> dict[str, Any]:
        """The arguments of every comparison."""
        return {"confidence": self.config.confidence, "resamples": self.config.resamples, "seed": self.seed}


def evaluate_bundle(
    collection: Collection,
    bundle: Path,
    config: EvaluateConfig,
    *,
    start: Start | None,
    seed: int,
    folder: Path,
    scores: Path,
    choices: Mapping[str, Any],
    serve: ServeConfig,
    seconds: Mapping[str, float],
    trained: bool = True,
    mined: Path | None = None,
    warmed: Path | None = None,
) -> dict[str, Any]:
    """Evaluate a bundle on the configured splits; write metrics, report, a table of all queries, and the TREC runs.

    Args:
        collection: queries and qrels.
        bundle: the pipeline.
        config: splits, systems, statistics and gate.
        start: the untuned model.
        seed: of the resampling, and of every choice of queries.
        folder: existing; runs go to `runs/`, those of an extra split to `runs/<split>/`; beside them `metrics.json`,
            `report.html` and `per_query.tsv`.
        scores: the folder where scores are kept, so that none is computed twice.
        choices: what was chosen on dev, for the report.
        serve: the pipeline's configuration.
        seconds: of the stages before.
        trained: whether the reranker was trained: what training met and a test set share gives that away.
        mined: the folder of the mine stage, which says what training met; none takes the train split for it.
        warmed: the lists of the warm-up that training started with; none if it started without one.

    Returns:
        What `metrics.json` holds.
    """
    pipeline = load_bundle(bundle)
    pipeline = pipeline.with_scorer(keep_scores(pipeline.reranker, scores))
    met = met_in_training(collection, mined, trained=trained, warmed=warmed)
    if not trained and "train" in collection.qrels:
        say(
            "  nothing was trained here, so no query is a leak from train: if the model was tuned elsewhere on this "
            "train split, queries that share text or documents with it look better than they are"
        )
    # Bundles of before say nothing of it.
    on_dev = bool(choices.get("calibrated", "dev" in collection.qrels))
    bench = Bench(collection, pipeline, config, serve, start, seed, met, folder, scores, on_dev)
    splits = dict.fromkeys((config.split, *config.extra_splits))
    sets = [query_set(collection, split, config.max_queries, seed, met) for split in splits]
    timings, latency = _time(bench, sets[0])
    tested, rows = {}, []
    variants: dict[str, Any] = {}
    for i, queries in enumerate(sets):
        found, runs, values, parts = _test(bench, queries, timings, deep=i == 0)
        tested[queries.split] = found
        rows.append((queries, values, parts))
        if i == 0:
            variants = {
                "exports": exports(pipeline, queries, runs, config.exports, scores, **bench.statistics),
                "replicates": replicates(pipeline, queries, runs, config.replicates, scores),
            }
    write_per_query(folder / "per_query.tsv", rows)
    metrics = {
        "collection": collection.name,
        "seed": seed,
        "confidence": config.confidence,
        "resamples": config.resamples,
        "measure": MEASURE,
        "depth": pipeline.depth,
        "candidates": pipeline.depths[0],
        "weight": pipeline.weight,
        "max_length": pipeline.reranker.max_length,
        "test_sets": tested,
        "development": dict(choices),
        "latency": latency,
        **variants,
        "seconds": dict(seconds),
    }
    return finish(metrics, config, serve, folder)


def finish(metrics: dict[str, Any], config: EvaluateConfig, serve: ServeConfig, folder: Path) -> dict[str, Any]:
    """Judge the figures, and write `metrics.json` and `report.html`."""
    verdict, checks = judge(metrics, config.gate, serve.latency_ms)
    metrics = {"verdict": verdict._asdict() | {"checks": [check._asdict() for check in checks]}} | metrics
    write_json(folder / "metrics.json", metrics)
    (folder / "report.html").write_text(render_report(metrics), encoding="utf-8")
    return metrics


def _test(
    bench: Bench, tested: QuerySet, timings: Mapping[int, Timing], *, deep: bool
) -> tuple[dict[str, Any], Runs, Standing, Slices]:
    """Everything about one test set; `deep` also looks below the pipeline's depth."""
    pipeline, config = bench.pipeline, bench.config
    by_system = run_systems(pipeline, tested, config, bench.start, seed=bench.seed, scores=bench.scores)
    for name, run in by_system.items():
        run.write_trec(bench.folder / "runs" / ("" if tested.split == config.split else tested.split) / f"{name}.trec")
    runs = Runs(*(by_system[name] for name in ("first_stage", "reranked", "pipeline")))
    # Of a cascade, scores are those of what its last reranker reads; of a single one, of all candidates.
    read = runs.read(pipeline.depth)
    values = standing(by_system, tested.qrels, measures_at(pipeline.depths[0]))
    parts = slices(tested.queries, runs.first_stage, pipeline.documents, tested.synthetic)
    given = given_slices(config.slices, tested.queries)
    parts |= given
    failures = diagnose(
        runs,
        tested.qrels,
        tested.queries,
        pipeline.documents,
        pipeline.reranker,
        weight=pipeline.weight,
        depth=pipeline.depth,
        scorer=pipeline.scorer,
        label="windows",
    )
    barren = find_barren(pipeline, tested.queries, tested.qrels, pipeline.depths[0]) if pipeline.answerability else None
    causes = {failure.query_id: failure.cause for failure in failures}
    found = {
        "split": tested.split,
        "origin": tested.origin,
        "queries": len(tested.queries),
        "notes": [*tested.notes, *left_out(config.slices, given)],
        "systems": systems(values),
        "ceiling": _ceiling(values, pipeline.depths[0]),
        "comparisons": comparisons(values, config, seed=bench.seed),
        "gain_kept": gain_kept(values),
        "slices": [
            {"slice": name, "value": value} | row
            for name, by_value in parts.items()
            for value, query_ids in by_value.items()
            if (row := part(values, query_ids, config, seed=bench.seed))
        ],
        "leakage": leakage(tested, values, {**bench.collection.queries, **bench.met.queries}, config, seed=bench.seed),
        "differences": quantiles(list(differences(values).values())),
        "depth": _depth(bench, tested, read, timings, deep=deep and not pipeline.cascade),
        "calibration": calibration(read.reranked, tested.qrels, pipeline, seed=bench.seed, on_dev=bench.on_dev),
        "answerability": answerability(read, tested.qrels, pipeline.answerability, barren),
        "diagnosis": summarise(failures, len(tested.queries), CUTOFF),
        "worst": worst(tested, runs, values, causes, pipeline.documents),
    }
    return found, runs, values, parts


def _ceiling(values: Standing, depth: int) -> dict[str, float]:
    return {"recall": mean(values["first_stage"][f"R@{depth}"]), "oracle": mean(values["oracle"][MEASURE])}


def _depth(bench: Bench, tested: QuerySet, runs: Runs, timings: Mapping[int, Timing], *, deep: bool) -> dict[str, Any]:
    """Quality over the depths with the weight that dev chose; deeper than the pipeline on a sample of the queries."""
    pipeline = bench.pipeline
    deepest = max(pipeline.depth, bench.serve.max_depth) if deep else pipeline.depth
    first, reranked = runs.first_stage, runs.reranked
    if deepest > pipeline.depth:
        chosen = choose_queries(tested.queries, bench.config.depth_queries, bench.seed)
        queries = {query_id: tested.queries[query_id] for query_id in chosen}
        first, reranked, _ = pipeline.rank(queries, depth=deepest, label=f"deeper {tested.split}")
    qrels = {query_id: tested.qrels[query_id] for query_id in first}
    curve = sweep(first, reranked, qrels, depths_up_to(deepest), pipeline.weight)
    return describe(curve, timings, pipeline.depth, **bench.statistics)


def _time(bench: Bench, tested: QuerySet) -> tuple[Mapping[int, Timing], dict[str, Any]]:
    """Time searches at every depth of the curve, and more of them at the pipeline's own."""
    pipeline = bench.pipeline
    chosen = choose_queries(tested.queries, bench.config.latency_queries, bench.seed)
    texts = [tested.queries[query_id] for query_id in chosen]
    # Deeper than its own depth, nothing of a cascade is measured.
    deepest = pipeline.depth if pipeline.cascade else max(pipeline.depth, bench.serve.max_depth)
    timings = time_searches(pipeline, texts[:TIMED_PER_DEPTH], depths_up_to(deepest))
    own = time_searches(pipeline, texts, [pipeline.depth])[pipeline.depth]
    latency = {
        "queries": len(texts),
        "first_stage_p50_ms": time_first_stage(pipeline, texts).p50,
        "p50_ms": own.p50,
        "p95_ms": own.p95,
    }
    return timings, latency
