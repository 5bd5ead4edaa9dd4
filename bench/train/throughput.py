"""Pairs per second of training steps, ours and the peer's, on the same lists and the same length, taking turns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from secondstage.texts import texts_of_lists

from .cells import Cell, Cells
from .ground import Ground, Options
from .processes import run_side, write_lists
from .summary import ratio

WARMUP_STEPS = 5
SIDES = ("peer", "ours")


def trials(lists: Sequence[int]) -> list[dict[str, Any]]:
    """The peer's settings that are tried: pairs at once (the default is the number of lists; -1 all), and attention.

    The data loader hands on texts, which the loss tokenises: workers can do nothing, and are tried once.
    """
    found = [
        {"lists": size, "mini_batch": pairs, "attention": attention, "workers": 0}
        for size in lists
        for pairs in (None, 16, -1)
        for attention in ("sdpa", "eager")
    ]
    return [*found, {**found[0], "workers": 1}]


class Throughput:
    """The collection, its lists as both sides read them, and the peer's best settings."""

    def __init__(self, ground: Ground, cells: Cells, seed: int) -> None:
        """Mine; nothing is measured yet."""
        self.ground, self.cells, self.seed = ground, cells, seed
        ground.carry_out("mine", seed=seed)
        self.config = ground.config(seed=seed).train
        self.pairs = {"model": self.config.model, "max_length": self.config.max_length}
        mined = ground.output / "mine"
        self.lists = ground.output / f"peer-{seed}.jsonl"
        self.count = write_lists(mined, texts_of_lists(ground.collection, mined), self.config, seed, self.lists)

    def peer_spec(self, settings: dict[str, Any], seconds: float, save: Path | None = None) -> dict[str, Any]:
        """What the peer is told."""
        return {
            "lists": str(self.lists),
            "model": self.config.model,
            "max_length": self.config.max_length,
            "seconds": seconds,
            "seed": self.seed,
            "settings": settings,
            "warmup_steps": WARMUP_STEPS,
            "save": None if save is None else str(save),
        }

    def best_settings(self, lists: Sequence[int], seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
        """The peer's fastest settings with steps of so many lists, and pairs per second of all that were tried."""
        speeds: list[tuple[float, dict[str, Any]]] = []
        for settings in trials(lists):
            key = {"part": "trial", "settings": settings, "seconds": seconds, **self.pairs}
            cell = self.cells.get(key, partial(run_side, "peer", self.peer_spec(settings, seconds)))
            speeds.append((cell["pairs_per_s"], settings))
        best = max(speeds, key=lambda pair: pair[0])[1]
        return best, {" ".join(map(str, each.values())): round(speed, 1) for speed, each in speeds}

    def round(self, side: str, number: int, settings: dict[str, Any], seconds: float) -> Cell:
        """One side's turn."""
        key = {"part": "throughput", "side": side, "round": number, "seconds": seconds, **self.pairs}
        if side == "peer":
            return self.cells.get(
                {**key, "settings": settings}, partial(run_side, "peer", self.peer_spec(settings, seconds))
            )
        config = self.config.model_copy(update={"minutes": seconds / 60})
        spec = {
            "collection": str(self.ground.output / "collection"),
            "mined": str(self.ground.output / "mine"),
            "config": config.model_dump(mode="json"),
            "seed": self.seed,
            "warmup_steps": WARMUP_STEPS,
        }
        return self.cells.get({**key, "settings": list(self.ground.options.settings)}, partial(run_side, "ours", spec))


def measure_throughput(
    options: Options, cells: Cells, *, rounds: int, seconds: float, trial_seconds: float, lists: Sequence[int]
) -> dict[str, Any]:
    """The part `--throughput`."""
    bench = Throughput(Ground("feedbackqa", options), cells, options.seeds[0])
    settings, tried = bench.best_settings(lists, trial_seconds)
    made = [{side: bench.round(side, number, settings, seconds) for side in SIDES} for number in range(rounds)]
    found = {side: [each[side] for each in made] for side in SIDES}

    def speeds(side: str, name: str) -> list[float]:
        return [cell[name] for cell in found[side]]

    def median(side: str, name: str) -> float:
        return round(statistics.median(speeds(side, name)), 4)

    names = ("pairs_per_s", "tokens_per_s", "padding_waste")
    return {
        "pairs_per_s_ratio": ratio(speeds("ours", names[0]), speeds("peer", names[0])),
        "padding_waste": median("ours", "padding_waste"),
        "throughput": {
            "tokens_per_s_ratio": ratio(speeds("ours", names[1]), speeds("peer", names[1])),
            "rounds": rounds,
            "lists": bench.count,
            "peer_settings": settings,
            "peer_trials": tried,
            **{side: {name: median(side, name) for name in names} for side in SIDES},
        },
    }
