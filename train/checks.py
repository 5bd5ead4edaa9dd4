"""What is looked at before training: an untrained head, a teacher's orders, dev queries that are given away, chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from secondstage.collection import Qrels
from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.lists import TrainingList
from secondstage.measures import evaluate, mean
from secondstage.models import pretrained, quiet_transformers, read_config
from secondstage.networks import has_head
from secondstage.run import Ranking, Run, all_tied, rank
from secondstage.significance import standard_error

from .selection import MEASURE

# Random orders that chance is measured with.
ORDERS = 20
# Lists on which a teacher is compared with the first stage.
COMPARED = 1000
# Dev queries that may be given away before something is said: a few are in every collection.
LEAKED = 0.1


def new_weights(config: TrainConfig) -> list[str]:
    """The names of a reranker's weights that the files of its model do not hold: they would be drawn at random.

    Raises:
        UserError: the model cannot be loaded.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    # A decoder may be large: what its configuration says is believed.
    if config.head == "yes_no" and has_head(read_config(config.model), "yes_no"):
        return []
    one_output = config.head == "classification"
    kind, labels = (AutoModelForSequenceClassification, {"num_labels": 1}) if one_output else (AutoModelForCausalLM, {})
    with quiet_transformers():
        _, info = pretrained(kind, config.model, output_loading_info=True, **labels)
    return sorted(info["missing_keys"])


def is_new(config: TrainConfig) -> bool:
    """Whether the head of `config.model` was never trained."""
    return bool(new_weights(config))


def refuse_new_head(config: TrainConfig) -> None:
    """Raise `UserError` if a model that is taken as it is has a head that was never trained."""
    if names := new_weights(config):
        raise UserError(
            f"train.steps=0 takes the model as it is, but train.model={config.model} is no trained reranker: it has no "
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


class Compared(NamedTuple):
    """nDCG@10 of a teacher's order and of the first stage's, means over the same lists.

    Attributes:
        teacher: of the teacher.
        first_stage: of the first stage.
        error: the standard error of the mean difference.
        lists: how many; 0 if there are none to compare.
    """

    teacher: float
    first_stage: float
    error: float
    lists: int


def compare_teacher(lists: Sequence[TrainingList], most: int = COMPARED) -> Compared:
    """How a teacher orders what the first stage found, by the judgements of each list.

    Args:
        lists: with the teacher's scores; left out are candidates without one or that the first stage did not find, and
            then lists without a relevant candidate, and those whose first stage tells nothing.
        most: lists that are looked at, evenly over all with a relevant candidate.
    """
    qrels: Qrels = {}
    first, taught = dict[str, Ranking](), dict[str, Ranking]()
    labelled = [x for x in lists if any(c.rank and c.judged and c.relevance > 0 for c in x.candidates)]
    for found in labelled[:: max(1, math.ceil(len(labelled) / most))]:
        ranked = sorted((c for c in found.candidates if c.rank and c.teacher_score is not None), key=lambda c: c.rank)
        relevant = {c.doc_id: c.relevance for c in ranked if c.judged and c.relevance > 0}
        if not relevant or all_tied([c.score for c in ranked]):
            continue
        doc_ids, unknown = [c.doc_id for c in ranked], [""] * len(ranked)
        qrels[found.query_id] = relevant
        first[found.query_id] = rank(doc_ids, -np.arange(len(ranked)), unknown)
        taught[found.query_id] = rank(doc_ids, [c.teacher_score or 0.0 for c in ranked], unknown)
    if not qrels:
        return Compared(0.0, 0.0, 0.0, 0)
    before, after = (
        np.array(list(evaluate(Run("order", order), qrels, [MEASURE])[MEASURE].values())) for order in (first, taught)
    )
    return Compared(float(after.mean()), float(before.mean()), standard_error(after - before), len(qrels))


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
