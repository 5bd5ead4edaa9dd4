"""The verb: read training lists, tune a cross-encoder, write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from secondstage.collection import Collection
from secondstage.config import TrainConfig
from secondstage.leakage import met_in_lists
from secondstage.lists import read_trainable
from secondstage.progress import say
from secondstage.reranker import Reranker
from secondstage.run import read_trec
from secondstage.synthetic import SYNTHETIC, PairTexts, read_records

from .loop import Loop
from .selection import dev_selection


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
    records = mined / SYNTHETIC
    texts = PairTexts(collection.queries, collection.documents, read_records(records) if records.is_file() else ())
    met = met_in_lists(lists, texts.queries)
    run, qrels = read_trec(mined / "dev.trec"), collection.qrels.get("dev", {})
    selection = dev_selection(
        run,
        qrels,
        texts,
        met,
        queries=config.dev_queries,
        depth=config.dev_depth,
        patience=config.patience,
        seed=seed,
    )
    if len(selection):
        say(selection.introduction())
    return Loop(texts, lists, selection, config, seed=seed, folder=folder).run()


def take_as_it_is(config: TrainConfig, seed: int, folder: Path) -> None:
    """Write the model untrained, as the reranker; its calibration, if it has one, goes with it."""
    set_seed(seed)  # of a new head
    Reranker.load(config.model, max_length=config.max_length, precision="fp32").save(folder / "reranker")
