"""Ranks, hard and soft, and what nDCG makes of them. All ranks begin at 1."""

from __future__ import annotations

import torch
from torch import Tensor

from .masked import better, differences


def hard_ranks(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The rank of each candidate by its score: `[lists, candidates]`, whole numbers, each once.

    Equal scores are ranked as badly as they can be, the lower label first: a tie is not yet a success. What is equal in
    both is ranked by place; that does not show in a sum over all candidates.
    """
    equal = (scores[:, :, None] == scores[:, None, :]) & mask[:, :, None] & mask[:, None, :]
    lower = labels[:, :, None] < labels[:, None, :]
    same = labels[:, :, None] == labels[:, None, :]
    earlier = torch.ones_like(equal).triu(diagonal=1)
    ahead = better(scores, mask) | (equal & (lower | (same & earlier)))
    return 1 + ahead.sum(dim=1)


def mean_ranks(targets: Tensor, mask: Tensor) -> Tensor:
    """Ranks by target, those of equal targets the mean of the ranks that they share: `[lists, candidates]`."""
    equal = (targets[:, :, None] == targets[:, None, :]) & mask[:, :, None]
    return better(targets, mask).sum(dim=1) + (equal.sum(dim=1) + 1) / 2


def soft_ranks(scores: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """1 + Σ σ((s_j − s_i) / T) over the others j, ranks that can be differentiated (Qin, Liu and Li 2010).

    Returns:
        `[lists, candidates]`, towards the hard ranks as T goes to 0.
    """
    others = mask[:, None, :] & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return 1 + (torch.sigmoid(-differences(scores) / temperature) * others).sum(dim=2)


def gains(labels: Tensor) -> Tensor:
    """2^label − 1, that of nDCG (Burges et al. 2005)."""
    return torch.exp2(labels) - 1


def discounts(ranks: Tensor) -> Tensor:
    """log2(1 + rank), which DCG divides the gains by."""
    return torch.log2(1 + ranks)


def normalised_gains(labels: Tensor, k: int | None = None) -> Tensor:
    """Gains as shares of the best DCG of their list down to rank k; all 0 of a list without a positive.

    Args:
        labels: `[lists, candidates]`, 0 where no candidate counts.
        k: None for the whole list.
    """
    found = gains(labels)
    places = torch.arange(1, labels.shape[1] + 1, device=labels.device, dtype=labels.dtype)
    best = (found.sort(dim=1, descending=True).values / discounts(places))[:, :k].sum(dim=1, keepdim=True)
    return found / torch.where(best > 0, best, 1)
