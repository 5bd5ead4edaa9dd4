"""The trace of a search: what it took, and what the second stage changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Trace(NamedTuple):
    """How an answer came about.

    Attributes:
        depth: candidates that the last reranker read.
        milliseconds: by stage: `first_stage`, `rerank` (all rerankers, waiting for their scores included) and `total`,
            which waiting for a turn is part of; in a cascade also each reranker's share, `rerank_1`, `rerank_2`, …; and
            `measuring`, of a search with a budget that timed the rerankers first, as nobody had done it before.
        first: the ids of all candidates, in the first stage's order; where fields were asked for, of those that match.
        final: the same ids in the order of the answer, before `top_n` and `min_score` cut it.
        reranked: the ids that the last reranker read, in the first stage's order; of one reranker `first[:depth]`.
        scores: their logits.
        fell_back: whether the answer is in an order that the last reranker had no part in: the gate or the budget of
            time would not have it.
        first_scores: the first stage's scores of `first`.
    """

    depth: int
    milliseconds: dict[str, float]
    first: list[str]
    final: list[str]
    reranked: list[str]
    scores: list[float]
    fell_back: bool
    first_scores: Sequence[float] = ()
