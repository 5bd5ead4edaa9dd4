"""The verb: read training lists, tune a cross-encoder, write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from secondstage.collection import Collection
from secondstage.config import TrainConfig
from secondstage.lists import read_trainable
from secondstage.rerankers import load_reranker
from secondstage.run import read_trec
from secondstage.synthetic import SYNTHETIC, PairTexts, read_records

from .loop import Loop
from .model import check_kind
from .selection import Selection


def train(collection: Collection, mined: Path, config: TrainConfig, *, seed: int, folder: Path) -> dict[str, Any]:
    """Tune a cross-encoder on what `mine` wrote; the result is `folder/reranker`.

    Args:
        collection: the texts.
        mined: the folder that `mine` wrote.
        config: model, budget and optimisation.
        seed: of everything random.
        folder: existing and empty.

    Returns:
        For the manifest: steps, lists, tokens, padding, the best dev value.
    """
    if config.steps == 0:
        take_as_it_is(config, seed, folder)
        return {"steps": 0}
    lists = list(read_trainable(mined / "train"))
    run = read_trec(mined / "dev.trec")
    selection = Selection(collection, run, queries=config.dev_queries, depth=config.dev_depth, seed=seed)
    records = mined / SYNTHETIC
    texts = PairTexts(collection.queries, collection.documents, read_records(records) if records.is_file() else ())
    return Loop(texts, lists, selection, config, seed=seed, folder=folder).run()


def take_as_it_is(config: TrainConfig, seed: int, folder: Path) -> None:
    """Write the model untrained, as the reranker; its calibration, if it has one, goes with it."""
    check_kind(config)
    set_seed(seed)  # of a new head
    load_reranker(
        config.model, kind=config.head, instruction=config.instruction, max_length=config.max_length, precision="fp32"
    ).save(folder / "reranker")
