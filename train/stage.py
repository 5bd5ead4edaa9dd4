"""The verb: read training lists, tune a reranker, write it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from secondstage.compute import release_memory
from secondstage.files import CARD, read_json, write_json
from secondstage.parallel import gather, wait, workers

from .best import RERANKER
from .card import write_card
from .checks import is_new
from .curves import PAGE, write_curves
from .starts import WARMUP, own_folder, starting_points, train_from_best
from .task import Task
from .tracking import DEV, RUN, STEPS, TENSORBOARD, TIMING
from .training import Training, take_as_it_is

# What a finished training is told by.
FINISHED = "finished.json"
RECORDS = (RUN, STEPS, DEV, TIMING, PAGE)


def train(task: Task, folder: Path, work: Path | None = None) -> dict[str, Any]:
    """Tune a reranker; the result is `folder/reranker`.

    Args:
        task: what is to be trained.
        folder: existing and empty.
        work: where checkpoints are kept: a training that was stopped goes on from there, one that several processes
            have made is taken from there. By default in `folder`, for as long as it takes.

    Returns:
        For the manifest: steps, lists, tokens, padding, the best dev value, and where it started from.
    """
    place = work or folder / "work"
    # Where several processes have made it, the lead is alone here.
    finished = read_json(place / FINISHED) if (place / FINISHED).is_file() else share(task, place)
    chosen = place / finished["place"]
    shutil.copytree(chosen / RERANKER, folder / RERANKER)
    _copy_records(chosen, folder)
    for other in place.glob(own_folder("*")):
        if other != chosen:
            (folder / other.name).mkdir()
            _copy_records(other, folder / other.name)
    if work is None:
        shutil.rmtree(place)
    details: dict[str, Any] = finished["details"]
    return details


def share(task: Task, work: Path) -> dict[str, Any]:
    """Train in the folder `work`, as one of several processes or alone.

    Returns:
        `details`, as of `train`, and `place`, the folder below `work` that has the results.
    """
    found: dict[str, Any] | None = _kept(work / FINISHED)
    if found is not None:
        return found
    work.mkdir(parents=True, exist_ok=True)
    # A model that is taken as it is needs nothing that was mined.
    untouched = task.config.steps == 0 and task.warmed is None
    dev = not untouched and (task.mined / "dev.trec").stat().st_size > 0
    # Without a step, a model is a start only if it has a head that was trained.
    choose = task.choose and not (task.config.steps == 0 and is_new(task.config))
    starts = starting_points(task.config.model, task.warmed, choose=choose, dev=dev)

    def train_from(model: str, place: Path) -> dict[str, Any]:
        config = task.config.model_copy(update={"model": model})
        return _trained(task._replace(config=config), place, measured=len(starts) > 1)

    place, details = train_from_best(starts, train_from, work)
    if workers().lead:
        write_json(work / FINISHED, {"place": place, "details": details})
    wait()
    return {"place": place, "details": details}


def _trained(task: Task, work: Path, *, measured: bool) -> dict[str, Any]:
    """Train from one start, in a folder of its own, unless that is done; `measured` where dev is to compare it."""
    done = work / f"own-{FINISHED}"
    found = _kept(done)
    if found is not None:
        return found
    work.mkdir(parents=True, exist_ok=True)
    warmed = task.warmed is not None and task.config.model == str(task.warmed)
    if task.config.steps == 0:
        details = take_as_it_is(task.config, task.seed, work)
        if warmed and workers().lead:  # its card says what was done
            shutil.copy(Path(task.config.model) / CARD, work / RERANKER)
        if measured:
            details |= Training(task, work).measure()
    else:
        details = Training(task, work).run()
        release_memory()  # where there are two starts, the next holds a model of its own
        if workers().lead:
            write_curves(work, details["findings"])
            start = {"start": WARMUP} if warmed else {}
            write_card(work / RERANKER, work, {**details, **start, "seconds": details["training_seconds"]})
    if workers().lead:
        write_json(done, details)
    wait()
    return details


def _kept(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file, for all processes as the lead sees it; none if it is not there."""
    found: dict[str, Any] | None = read_json(path) if workers().lead and path.is_file() else None
    return gather(found)[0]


def _copy_records(source: Path, target: Path) -> None:
    for name in RECORDS:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    if (source / TENSORBOARD).is_dir():
        shutil.copytree(source / TENSORBOARD, target / TENSORBOARD)
