"""The verb: read training lists, tune a reranker, write it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secondstage.collection import Collection
from secondstage.compute import set_seed
from secondstage.config import TrainConfig
from secondstage.files import read_json, write_json
from secondstage.leakage import met_in_lists
from secondstage.lists import INDEX, TrainingList, read_index, read_trainable
from secondstage.parallel import wait, workers
from secondstage.progress import say
from secondstage.rerankers import load_reranker
from secondstage.run import read_trec
from secondstage.synthetic import SYNTHETIC, PairTexts, read_records

from .best import RERANKER
from .card import write_card
from .checks import refuse_new_head
from .curves import PAGE, write_curves
from .facts import describe_lists
from .loop import Loop
from .model import check_kind
from .selection import Selection, dev_selection
from .stopping import Curve, choose_stop
from .tracking import DEV, RUN, STEPS, TIMING, read_lines

# What a finished training is told by.
FINISHED = "finished.json"
RESULTS = (RERANKER, RUN, STEPS, DEV, TIMING, PAGE)


def train(
    collection: Collection, mined: Path, config: TrainConfig, *, seed: int, folder: Path, work: Path | None = None
) -> dict[str, Any]:
    """Tune a reranker on what `mine` wrote; the result is `folder/reranker`.

    Args:
        collection: the texts.
        mined: the folder that `mine` wrote.
        config: model, budget and optimisation.
        seed: of everything random.
        folder: existing and empty.
        work: where checkpoints are kept: a training that was stopped goes on from there, one that several processes
            have made is taken from there. By default in `folder`, for as long as it takes.

    Returns:
        For the manifest: steps, lists, tokens, padding, the best dev value.
    """
    if config.steps == 0:
        take_as_it_is(config, seed, folder)
        return {"steps": 0}
    place = work or folder / "work"
    details = share(collection, mined, config, seed=seed, work=place)
    for name in RESULTS:
        if (place / name).is_dir():
            shutil.copytree(place / name, folder / name)
        elif (place / name).is_file():
            shutil.copyfile(place / name, folder / name)
    if work is None:
        shutil.rmtree(place)
    return details


def share(collection: Collection, mined: Path, config: TrainConfig, *, seed: int, work: Path) -> dict[str, Any]:
    """Train in the folder `work`, as one of several processes or alone; arguments and result as of `train`."""
    finished = work / FINISHED
    if finished.is_file():
        found: dict[str, Any] = read_json(finished)
        return found
    work.mkdir(parents=True, exist_ok=True)
    details = _Training(collection, mined, config, seed, work).run()
    if workers().lead:
        findings = details["findings"]
        write_curves(work, findings)
        write_card(work / RERANKER, work, {**details, "seconds": details["training_seconds"]})
        write_json(finished, details)
    wait()
    return details


class _Training:
    """What one training is given."""

    def __init__(self, collection: Collection, mined: Path, config: TrainConfig, seed: int, work: Path) -> None:
        self.config, self.seed, self.work = config, seed, work
        self.collection, self.mined = collection, mined
        self.lists = list(read_trainable(mined / "train"))
        records = mined / SYNTHETIC
        synthetic = read_records(records) if records.is_file() else ()
        self.texts = PairTexts(collection.queries, collection.documents, synthetic)

    def run(self) -> dict[str, Any]:
        """Train; with folds, find out first for how long."""
        config, index = self.config, read_index(self.mined / "train")
        digests = {INDEX: read_json(self.mined / "train" / INDEX)}
        data = describe_lists(self.lists, digests, index.teachers)
        stop_at = 1.0
        if config.folds:
            stop_at = choose_stop(
                self.lists,
                self.texts,
                self._fold,
                folds=config.folds,
                evaluations=config.evaluations,
                queries=config.dev_queries,
                depth=config.dev_depth,
                seed=self.seed,
                folder=self.work,
                measured=set(self.collection.queries),
            ).progress
        selection = self._dev()
        if len(selection):
            say(selection.introduction())
        loop = Loop(self.texts, self.lists, selection, config, seed=self.seed, folder=self.work, data=data)
        found = loop.run(stop_at)
        return {**found, **({"stop_at": stop_at} if config.folds else {})}

    def _dev(self) -> Selection:
        config, collection = self.config, self.collection
        return dev_selection(
            read_trec(self.mined / "dev.trec"),
            collection.qrels.get("dev", {}),
            self.texts,
            met_in_lists(self.lists, self.texts.queries),
            queries=config.dev_queries,
            depth=config.dev_depth,
            seed=self.seed,
            patience=config.patience,
        )

    def _fold(self, lists: Sequence[TrainingList], selection: Selection, folder: Path) -> Curve:
        """Train on some of the lists, and tell how the others were ranked meanwhile."""
        folder.mkdir(parents=True, exist_ok=True)
        config = self.config.model_copy(update={"tracker": "none", "patience": None, "average": 1})
        loop = Loop(self.texts, lists, selection, config, seed=self.seed, folder=folder, tokens=self.work)
        loop.run()
        return [(line["progress"], line["values"]) for line in read_lines(folder / DEV)]


def take_as_it_is(config: TrainConfig, seed: int, folder: Path) -> None:
    """Write the model untrained, as the reranker; its calibration, if it has one, goes with it."""
    check_kind(config)
    refuse_new_head(config.model)
    set_seed(seed)
    load_reranker(
        config.model, kind=config.head, instruction=config.instruction, max_length=config.max_length, precision="fp32"
    ).save(folder / RERANKER)
