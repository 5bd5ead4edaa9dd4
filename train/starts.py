"""Where training starts: from the model, or from the same model after a warm-up; or from both, and dev decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from secondstage.progress import say

from .selection import DEV_VALUE, MEASURE

MODEL, WARMUP = "model", "warmup"

TrainFrom = Callable[[str, Path], Mapping[str, Any]]
"""Trains from a model (a folder, a hub id) in a folder; returns details for the manifest."""


def starting_points(model: str, warmed: Path | None, *, choose: bool, dev: bool) -> dict[str, str]:
    """The models to start from, by name, the plain one first.

    Args:
        model: the plain one.
        warmed: the warmed-up one; none if there is none, or it is not to be used.
        choose: whether dev is to say which of the two is better.
        dev: whether there are dev queries.
    """
    if warmed is None:
        return {MODEL: model}
    if choose and dev:
        return {MODEL: model, WARMUP: str(warmed)}
    if choose:
        say("  no dev query tells whether the warm-up helps: training starts from the warmed-up model (warmup.use)")
    return {WARMUP: str(warmed)}


def train_from_best(starts: Mapping[str, str], train_from: TrainFrom, work: Path) -> tuple[str, dict[str, Any]]:
    """Train from every start with the whole budget, and tell which is best on dev; of equal ones the first is.

    Args:
        starts: models by name; where there are several, there must be dev queries.
        train_from: trains from one of them, always alike; what it returns tells the value at the chosen checkpoint as
            `dev_nDCG@10`.
        work: where it works, for each of several starts in `from_<name>`.

    Returns:
        The folder below `work` that has the best, and what `train_from` returned of it; with `start`, its name, unless
        there was none but the plain model; and where there are several, `starts`: the value of each, and what it cost.
    """
    if len(starts) == 1:
        ((name, model),) = starts.items()
        return ".", {**train_from(model, work), **({} if name == MODEL else {"start": name})}
    say(f"  training starts {len(starts)} times, each with the whole budget: from {' and from '.join(starts.values())}")
    found: dict[str, Mapping[str, Any]] = {}
    for name, model in starts.items():
        say(f"  from {model} …")
        found[name] = train_from(model, work / own_folder(name))
    kept = max(found, key=lambda name: float(found[name][DEV_VALUE]))
    say(f"  dev {MEASURE}: {', '.join(f'{found[x][DEV_VALUE]:.4f} from the {x}' for x in found)}; kept: {kept}")
    costs = ("steps", "training_seconds")
    starts_found = {
        name: {DEV_VALUE: details[DEV_VALUE], **{cost: details.get(cost) for cost in costs}}
        for name, details in found.items()
    }
    return own_folder(kept), {**found[kept], "start": kept, "starts": starts_found}


def own_folder(start: str) -> str:
    """The name of the folder of one of several starts."""
    return f"from_{start}"
