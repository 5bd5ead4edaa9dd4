"""The verb: read training lists, tune a cross-encoder, write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from secondstage.collection import Collection
from secondstage.config import TrainConfig
from secondstage.lists import read_trainable
from secondstage.reranker import Reranker
from secondstage.run import Run, read_trec
from secondstage.synthetic import SYNTHETIC, PairTexts, read_records

from .loop import Loop
from .selection import Selection
from .starts import DEV, starting_points, train_from_best


def train(
    collection: Collection,
    mined: Path,
    config: TrainConfig,
    *,
    seed: int,
    folder: Path,
    warmed: Path | None = None,
    choose: bool = False,
) -> dict[str, Any]:
    """Tune a cross-encoder on what `mine` wrote; the result is `folder/reranker`.

    Args:
        collection: the texts.
        mined: the folder that `mine` wrote.
        config: model, budget and optimisation.
        seed: of everything random.
        folder: existing and empty.
        warmed: a reranker to start from instead of `config.model`.
        choose: start from both, each with the whole budget, and keep what is better on dev.

    Returns:
        For the manifest: steps, lists, tokens, padding, the best dev value, and where it started from.
    """
    # A model that is taken as it is needs nothing that was mined.
    run = Run("none", {}) if config.steps == 0 and warmed is None else read_trec(mined / "dev.trec")
    starts = starting_points(config.model, warmed, choose=choose, dev=len(run) > 0)

    def train_from(model: str, target: Path) -> dict[str, Any]:
        own = config.model_copy(update={"model": model})
        selection = Selection(collection, run, queries=config.dev_queries, depth=config.dev_depth, seed=seed)
        if config.steps == 0:
            take_as_it_is(own, seed, target)
            return {"steps": 0, **({DEV: _dev_value(own, target, selection)} if len(starts) > 1 else {})}
        return _train(collection, mined, own, selection, seed=seed, folder=target)

    return train_from_best(starts, train_from, folder)


def _train(
    collection: Collection, mined: Path, config: TrainConfig, selection: Selection, *, seed: int, folder: Path
) -> dict[str, Any]:
    lists = list(read_trainable(mined / "train"))
    records = mined / SYNTHETIC
    texts = PairTexts(collection.queries, collection.documents, read_records(records) if records.is_file() else ())
    return Loop(texts, lists, selection, config, seed=seed, folder=folder).run()


def _dev_value(config: TrainConfig, folder: Path, selection: Selection) -> float:
    """What the reranker in `folder` is worth on dev."""
    return selection.value(Reranker.load(folder / "reranker", batch_tokens=config.batch_tokens))


def take_as_it_is(config: TrainConfig, seed: int, folder: Path) -> None:
    """Write the model untrained, as the reranker; its calibration, if it has one, goes with it."""
    set_seed(seed)  # of a new head
    Reranker.load(config.model, max_length=config.max_length, precision="fp32").save(folder / "reranker")
