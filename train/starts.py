"""Where training starts: from the model, or from the same model after a warm-up; or from both, and dev decides."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from secondstage.progress import say

from .selection import MEASURE

MODEL, WARMUP = "model", "warmup"
DEV = f"dev_{MEASURE}"

TrainFrom = Callable[[str, Path], Mapping[str, Any]]
"""Trains from a model (a folder, a hub id) into an existing, empty folder; returns details for the manifest."""


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


def train_from_best(starts: Mapping[str, str], train_from: TrainFrom, folder: Path) -> dict[str, Any]:
    """Train from every start with the whole budget, and keep in `folder` what is best on dev.

    Of equal ones the first is kept. What the others logged stays below `folder/from_<name>`, without their rerankers.

    Args:
        starts: models by name; where there are several, there must be dev queries.
        train_from: trains from one of them, always alike; what it returns tells the value at the chosen checkpoint as
            `dev_nDCG@10`.
        folder: existing and empty.

    Returns:
        What `train_from` returned of the start that was kept; `start`, its name, unless there was none but the plain
        model; and where there are several, `starts`: the value of each, and what it cost.
    """
    if len(starts) == 1:
        ((name, model),) = starts.items()
        return {**train_from(model, folder), **({} if name == MODEL else {"start": name})}
    say(f"  training starts {len(starts)} times, each with the whole budget: from {' and from '.join(starts.values())}")
    found: dict[str, Mapping[str, Any]] = {}
    seconds: dict[str, float] = {}
    for name, model in starts.items():
        own = folder / f"from_{name}"
        own.mkdir()
        say(f"  from {model} …")
        began = time.monotonic()
        found[name] = train_from(model, own)
        seconds[name] = round(time.monotonic() - began, 2)
    kept = max(found, key=lambda name: float(found[name][DEV]))
    say(f"  dev {MEASURE}: {', '.join(f'{found[name][DEV]:.4f} from the {name}' for name in found)}; kept: {kept}")
    for name in starts:
        if name != kept:
            shutil.rmtree(folder / f"from_{name}" / "reranker")
    own = folder / f"from_{kept}"
    for path in list(own.iterdir()):
        path.rename(folder / path.name)
    own.rmdir()
    costs = {name: {DEV: details[DEV], "steps": details.get("steps")} for name, details in found.items()}
    return {
        **found[kept],
        "start": kept,
        "starts": {name: {**cost, "seconds": seconds[name]} for name, cost in costs.items()},
    }
