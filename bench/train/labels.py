"""The pipeline against its own first stage where labels are few: some queries of feedbackqa; scifact with warm-up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from secondstage.files import read_manifest
from secondstage.measures import evaluate
from secondstage.serve.fuse import fuse

from .cells import Cell, Cells
from .ground import MEASURE, Ground, Options, column, read_qrels
from .summary import average, difference


def measure_little(options: Options, cells: Cells, *, minutes: float, sizes: Sequence[int]) -> dict[str, Any]:
    """The part `--little`: so many training queries, drawn anew at each seed."""
    ground = Ground("feedbackqa", options)

    def cell(size: int, seed: int) -> Cell:
        made = ground.carry_out("bundle", seed=seed, mine__max_queries=size, train__minutes=minutes)
        return {**_choices(made), **ground.orders(ground.bundle())}

    found: dict[str, Any] = {}
    for size in sizes:
        own = [
            cells.get(
                options.key("little", size=size, seed=seed, minutes=minutes),
                partial(cell, size, seed),
            )
            for seed in options.seeds
        ]
        found[str(size)] = _against_first_stage(own, "pipeline", "first_stage")
    return {"little": found}


def measure_few(options: Options, cells: Cells, *, warmup: float, minutes: float) -> dict[str, Any]:
    """The part `--few`: scifact, warmed up on its documents, then trained from both starts; dev chooses.

    The training is `warmup` minutes and twice `minutes`.
    """
    ground = Ground("scifact", options)
    unseen = read_qrels(ground.source / "extra" / "test_unseen_docs.tsv")

    def cell(seed: int) -> Cell:
        made = ground.carry_out("bundle", seed=seed, warmup={"minutes": warmup}, train__minutes=minutes)
        bundle = ground.bundle()
        found: Cell = {**_choices(made), **ground.orders(bundle), "start": _start(ground)}
        judged = {query_id: unseen[query_id] for query_id in ground.qrels if query_id in unseen}
        reranked = ground.reranked(bundle.reranker)
        for name, run in (
            ("unseen_first_stage", ground.run),
            ("unseen_pipeline", fuse(ground.run, reranked, bundle.weight, bundle.depth)),
        ):
            found[name] = evaluate(run.only(judged), judged, [MEASURE])[MEASURE]
        return found

    own = [
        cells.get(
            options.key("few", seed=seed, warmup=warmup, minutes=minutes),
            partial(cell, seed),
        )
        for seed in options.seeds
    ]
    found = {
        "test": _against_first_stage(own, "pipeline", "first_stage"),
        "test_unseen_docs": _against_first_stage(own, "unseen_pipeline", "unseen_first_stage"),
        "starts": [one["start"] for one in own],
        "minutes": warmup + 2 * minutes,
    }
    return {"few": found}


def _choices(bundle: dict[str, Any]) -> dict[str, Any]:
    choices = bundle["choices"]
    return {"weight": choices["fusion"]["weight"], "chosen": choices["depth"]}


def _start(ground: Ground) -> dict[str, Any]:
    manifest = read_manifest(ground.output / "train", "train")
    return {"start": manifest.get("start"), "starts": manifest.get("starts")}


def _against_first_stage(own: Sequence[Cell], pipeline: str, first_stage: str) -> dict[str, Any]:
    """Over the seeds together with an interval, and the difference at each seed."""
    both = [(column([cell], pipeline), column([cell], first_stage)) for cell in own]
    by_seed = [difference(*pair) for pair in both]
    return {
        "first_stage": average(column(own, first_stage)),
        "pipeline": average(column(own, pipeline)),
        "reranked": average(column(own, "reranked")) if pipeline == "pipeline" else None,
        "difference": difference(column(own, pipeline), column(own, first_stage)),
        "by_seed": by_seed,
        "least": min(found[0] for found in by_seed),
        "weights": [cell["weight"] for cell in own],
        "queries": len(own[0][pipeline]),
    }
