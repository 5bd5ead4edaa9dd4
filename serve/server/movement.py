"""How much two orders of the same documents differ: pure functions, document ids in, a number out.

With `first` and `final` of one search they say how much the second stage changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

TOP = 10


class Movement(NamedTuple):
    """What became of one order in another.

    Attributes:
        top1: whether both begin with the same document.
        displacement: by how many ranks the documents of the new top 10 have moved, on average.
        newcomers: the share of the new top 10 that was not in the old one.
    """

    top1: bool
    displacement: float
    newcomers: float


def movement(first: Sequence[str], final: Sequence[str]) -> Movement | None:
    """What the second stage changed; none where nothing was found.

    Args:
        first: document ids in the old order.
        final: all or some of them in the new one.
    """
    if not first or not final:
        return None
    return Movement(first[0] == final[0], displacement(first, final), 1 - overlap(first, final))


def displacement(first: Sequence[str], final: Sequence[str], top: int = TOP) -> float:
    """The mean of |old rank − new rank| over the first `top` documents of `final`, all of which `first` ranks.

    0 for the same order; of a list of n that is reversed, the mean of |n + 1 − 2i| over i = 1 … top.
    """
    ranks = {doc_id: rank for rank, doc_id in enumerate(first)}
    moved = [abs(ranks[doc_id] - rank) for rank, doc_id in enumerate(final[:top])]
    return sum(moved) / len(moved)


def overlap(left: Sequence[str], right: Sequence[str], top: int = TOP) -> float:
    """The share of the first `top` documents of `right` that are among the first `top` of `left`."""
    best = set(left[:top])
    return sum(doc_id in best for doc_id in right[:top]) / len(right[:top])


def discounted_overlap(left: Sequence[str], right: Sequence[str], top: int = TOP) -> float:
    """nDCG of `right`, where the first `top` documents of `left` are what is relevant.

    A document that is not among them costs more at the head of the list than at its end.
    """
    discounts = 1 / np.log2(np.arange(2, top + 2))
    best = set(left[:top])
    gains = [doc_id in best for doc_id in right[:top]]
    return float(discounts[: len(gains)] @ gains / discounts[: len(best)].sum())


def kendall_tau(left: Sequence[str], right: Sequence[str]) -> float | None:
    """(concordant − discordant) / all pairs of documents, which both rank; none for fewer than two."""
    from scipy.stats import kendalltau

    if len(left) < 2:
        return None
    ranks = {doc_id: rank for rank, doc_id in enumerate(left)}
    found: Any = kendalltau([ranks[doc_id] for doc_id in right], range(len(right)))
    return float(found.statistic)
