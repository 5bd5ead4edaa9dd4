"""What is looked at before training: a head that nobody trained, dev queries that training gives away, chance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from secondstage.collection import Qrels
from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.measures import evaluate, mean
from secondstage.models import pretrained, quiet_transformers
from secondstage.run import Run

from .selection import MEASURE

# Random orders that chance is measured with.
ORDERS = 20
# Dev queries that may be given away before something is said: a few are in every collection.
LEAKED = 0.1


def new_weights(model: str) -> list[str]:
    """The names of a cross-encoder's weights that its files do not hold: they would be drawn at random.

    Raises:
        UserError: the model cannot be loaded.
    """
    from transformers import AutoModelForSequenceClassification

    with quiet_transformers():
        _, info = pretrained(AutoModelForSequenceClassification, model, output_loading_info=True, num_labels=1)
    return sorted(info["missing_keys"])


def is_new(config: TrainConfig) -> bool:
    """Whether the head of `config.model` was never trained."""
    return config.head == "classification" and bool(new_weights(config.model))


def refuse_new_head(model: str) -> None:
    """Raise `UserError` if a model that is taken as it is has a head that was never trained."""
    if names := new_weights(model):
        raise UserError(
            f"train.steps=0 takes the model as it is, but train.model={model} is no trained reranker: it has no "
            f"{', '.join(names)}, and random weights would order documents at random: give a reranker, or a budget"
        )


def overlapping(found: Mapping[str, int], queries: int) -> str:
    """An overlap in words with a next step; empty if it is small.

    Args:
        found: what `leakage.count` gave; empty if nobody looked.
        queries: of dev.
    """
    if found.get("any", 0) <= LEAKED * queries:
        return ""
    texts = found["same_text"] + found["near_duplicate"]
    return (
        f"training gives {found['any']} of {queries} dev queries away ({texts} share their text, nearly, with a "
        f"training query, {found['document']} a relevant document): dev is too easy, and the checkpoint that knows "
        "them by heart may be chosen; set mine.exclude_leaks=documents, or cut dev by documents"
    )


def chance(run: Run, qrels: Qrels, seed: int) -> tuple[float, float]:
    """nDCG@10 of lists in random order: the mean of several, and the standard error of a single one.

    Args:
        run: the lists, not empty.
        qrels: the judgements of their queries.
        seed: of the orders.
    """
    rng = np.random.default_rng(seed)
    size = len(list(run.pairs()))
    shuffled = (run.rescored("random", rng.random(size)) for _ in range(ORDERS))
    values = [mean(evaluate(one, qrels, [MEASURE])[MEASURE]) for one in shuffled]
    return float(np.mean(values)), float(np.std(values, ddof=1))
