"""nDCG@10 on test after equal minutes of training, the peer's and ours, from the same lists and the same model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from typing import Any

from secondstage.files import read_manifest
from secondstage.rerankers import load_reranker

from .cells import Cell, Cells
from .ground import Ground, Options, column
from .processes import run_side
from .summary import average, difference, minutes_to_reach
from .throughput import Throughput


def peer_cell(bench: Throughput, settings: dict[str, Any], minutes: float) -> Cell:
    """Train the peer, and rerank test with it, by the same code as ours."""
    ground, folder = bench.ground, bench.ground.output / "peer"
    shutil.rmtree(folder, ignore_errors=True)
    speed = run_side("peer", bench.peer_spec(settings, 60 * minutes, folder))
    reranker = load_reranker(folder, max_length=bench.config.max_length)
    return {**speed, "reranked": ground.values(ground.reranked(reranker, "peer"))}


def our_cell(ground: Ground, seed: int, minutes: float) -> Cell:
    """Train ours and choose its fusion weight on dev, as the product does, at the depth that is compared."""
    made = ground.carry_out("bundle", seed=seed, train__minutes=minutes, serve__depth=ground.options.depth)
    training = _training(ground)
    return {**training, "weight": made["choices"]["fusion"]["weight"], **ground.orders(ground.bundle())}


def _training(ground: Ground) -> dict[str, Any]:
    manifest = read_manifest(ground.output / "train", "train")
    names = ("steps", "pairs", "tokens", "padding", "training_seconds", "best_step")
    return {name: manifest.get(name) for name in names}


def measure_quality(
    options: Options,
    cells: Cells,
    *,
    minutes: float,
    shares: Sequence[float],
    lists: Sequence[int],
    trial_seconds: float,
) -> dict[str, Any]:
    """The part `--quality`.

    Args:
        options: of all parts.
        cells: what is measured already.
        minutes: of training, of both.
        shares: of these minutes, after which ours is measured too, in trainings of their own.
        lists: of a step of the peer; of several sizes the one that is best on test counts.
        trial_seconds: for which each of the peer's settings is tried.
    """
    ground = Ground("feedbackqa", options)
    peers: dict[int, list[Cell]] = {size: [] for size in lists}
    ours: dict[float, list[Cell]] = {share * minutes: [] for share in (*shares, 1.0)}
    for seed in options.seeds:
        bench = Throughput(ground, cells, seed)
        for size, found in peers.items():
            settings, _ = bench.best_settings([size], trial_seconds)
            key = options.key("quality", side="peer", seed=seed, minutes=minutes, peer=settings)
            found.append(cells.get(key, partial(peer_cell, bench, settings, minutes)))
        for budget, found in ours.items():
            key = options.key("quality", side="ours", seed=seed, minutes=budget)
            found.append(cells.get(key, partial(our_cell, ground, seed, budget)))
    return summarise(peers, ours, minutes)


def summarise(peers: dict[int, list[Cell]], ours: dict[float, list[Cell]], minutes: float) -> dict[str, Any]:
    """The figures, from the cells of all seeds: the peer's by the lists of a step, ours by minutes."""
    means = {size: average(column(cells, "reranked")) for size, cells in peers.items()}
    best = max(means, key=lambda size: means[size])
    peer, full = column(peers[best], "reranked"), ours[minutes]
    by_minutes = {
        name: {budget: average(column(cells, name)) for budget, cells in ours.items()}
        for name in ("reranked", "pipeline")
    }
    return {
        "quality": {
            "peer": means[best],
            "reranked": by_minutes["reranked"][minutes],
            "pipeline": by_minutes["pipeline"][minutes],
            "first_stage": average(column(full, "first_stage")),
            "reranked_minus_peer": difference(column(full, "reranked"), peer),
            "pipeline_minus_peer": difference(column(full, "pipeline"), peer),
            "queries": len(peer[0]),
            "seeds": len(full),
            "minutes": minutes,
            "by_minutes": by_minutes,
            "peer_by_lists": means,
            "peer_pairs": [cell["pairs"] for cell in peers[best]],
            "pairs": [cell["pairs"] for cell in full],
            "weights": [cell["weight"] for cell in full],
        },
        "minutes_to_peer": minutes_to_reach(means[best], by_minutes["reranked"]),
        "minutes_to_peer_fused": minutes_to_reach(means[best], by_minutes["pipeline"]),
    }
