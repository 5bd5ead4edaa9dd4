"""The verb: read training lists, tune a cross-encoder, write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from secondstage.collection import Collection
from secondstage.config import TrainConfig
from secondstage.lists import read_lists
from secondstage.reranker import Reranker
from secondstage.run import read_trec
from secondstage.synthetic import texts_of_lists

from .loop import Loop
from .selection import Selection
from .teaching import taught


def train(
    collection: Collection,
    mined: Path,
    config: TrainConfig,
    *,
    seed: int,
    folder: Path,
    scores: Path | None = None,
) -> dict[str, Any]:
    """Tune a cross-encoder on what `mine` or `teach` wrote; the result is `folder/reranker`.

    Args:
        collection: the texts.
        mined: the folder that `mine` or `teach` wrote.
        config: model, budget and optimisation.
        seed: of everything random.
        folder: existing and empty.
        scores: the folder where the scores of a teacher are kept; needed with `train.teacher`.

    Returns:
        For the manifest: steps, lists, tokens, padding, the best dev value.
    """
    if config.steps == 0:
        take_as_it_is(config, seed, folder)
        return {"steps": 0}
    texts = texts_of_lists(collection, mined)
    learnt = taught(read_lists(mined / "train"), texts, config, scores)
    run = read_trec(mined / "dev.trec")
    selection = Selection(collection, run, queries=config.dev_queries, depth=config.dev_depth, seed=seed)
    return learnt.counts | Loop(texts, learnt.lists, selection, config, seed=seed, folder=folder).run()


def take_as_it_is(config: TrainConfig, seed: int, folder: Path) -> None:
    """Write the model untrained, as the reranker; its calibration, if it has one, goes with it."""
    set_seed(seed)  # of a new head
    Reranker.load(config.model, max_length=config.max_length, precision="fp32").save(folder / "reranker")
