"""The queries that are mined: those of the train split that may be trained on."""

from __future__ import annotations

from typing import NamedTuple

from secondstage.collection import Collection, Qrels
from secondstage.config import MineConfig
from secondstage.errors import UserError
from secondstage.leakage import find_leaks, leaking
from secondstage.splits import answerable, choose_queries

TRAIN = "train"


class TrainingQueries(NamedTuple):
    """What is mined, and what was left out.

    Attributes:
        qrels: the judgements of each query, also those below the lowest relevance of a positive.
        counts: queries left out, by reason.
        notes: the same in words, for the audit.
    """

    qrels: Qrels
    counts: dict[str, int]
    notes: list[str]


def training_queries(collection: Collection, config: MineConfig, seed: int) -> TrainingQueries:
    """The queries of the train split that have a positive, give nothing of dev or test away if that is asked for, and
    are among those that the seed chooses.

    Raises:
        UserError: all of them give something away, and none are made from documents.
    """
    judged = collection.qrels.get(TRAIN, {})
    known = {query_id: rows for query_id, rows in judged.items() if max(rows.values()) >= config.positive_from}
    counts = {"train_queries_without_positive": len(judged) - len(known)}
    notes = []
    if len(known) < len(judged):
        notes.append(
            f"{len(judged) - len(known)} of {len(judged)} training queries have no judgement of "
            f"mine.positive_from={config.positive_from} or higher: left out"
        )
    held_out = {split: answerable(qrels) for split, qrels in collection.qrels.items() if split != TRAIN}
    if config.exclude_leaks != "none" and held_out and known:
        given_away = leaking(find_leaks(collection.queries, known, held_out), config.exclude_leaks)
        if len(given_away) == len(known) and config.synthesize is None:
            raise UserError(
                f"all {len(known)} training queries share {_shared(config)} with a query of "
                f"{', '.join(held_out)}: mine.exclude_leaks={config.exclude_leaks} leaves none; loosen it"
            )
        counts["train_queries_excluded_as_leaks"] = len(given_away)
        notes.append(
            f"{len(given_away)} of {len(known)} training queries share {_shared(config)} with a query of "
            f"{', '.join(held_out)}: left out"
        )
        known = {query_id: rows for query_id, rows in known.items() if query_id not in given_away}
    chosen = choose_queries(known, config.max_queries, seed)
    return TrainingQueries({query_id: known[query_id] for query_id in chosen}, counts, notes)


def _shared(config: MineConfig) -> str:
    return "their text, nearly," if config.exclude_leaks == "queries" else "their text, nearly, or a relevant document"
