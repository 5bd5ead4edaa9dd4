"""Losses on labels, each candidate by itself. A label above 0 is a positive, whatever its grade."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .masked import clean, mean, penalty


def bce(scores: Tensor, targets: Tensor, *, mask: Tensor, pos_weight: float | Literal["auto"] = 1.0) -> Tensor:
    """Binary cross-entropy, as in monoBERT (Nogueira and Cho 2019, 1901.04085).

    Args:
        scores: `[lists, candidates]`; so targets and mask.
        targets: labels.
        mask: true where a candidate counts.
        pos_weight: how often a positive counts; "auto": the negatives per positive of its list, so that both sides
            weigh the same (1 where the list has only one of them).

    Returns:
        `[lists]`: the mean over the candidates, not over their weights.
    """
    scores, labels = clean(scores, targets, mask)
    positive = mask & (labels > 0)
    weight = _balance(positive, mask).to(scores.dtype) if pos_weight == "auto" else pos_weight
    return mean(torch.where(positive, weight * penalty(scores), penalty(-scores)), mask)


def gbce(scores: Tensor, targets: Tensor, *, mask: Tensor, t: float = 0.75, sampling: float = 0.016) -> Tensor:
    """Generalised binary cross-entropy, which cures the over-confidence that drawing few negatives brings.

    The positive's probability is raised to the power β = α (t (1 − 1/α) + 1/α) = 1 − t (1 − α): t = 0 is plain BCE,
    with t = 1 probabilities are calibrated. From recommendation (Petrov and Macdonald 2023, 2308.07192), for shallow
    cross-encoders: Petrov, MacAvaney and Macdonald 2024, 2403.20222.

    Args:
        scores: `[lists, candidates]`; so targets and mask.
        targets: labels.
        mask: true where a candidate counts.
        t: how far it is calibrated, from 0 to 1.
        sampling: α, the negatives drawn for a step per negative there is to draw from. The default is that of the
            second paper's code: 16 of BM25's first thousand. For a small pool give the share, e.g. 7 of 30: 0.23.

    Returns:
        `[lists]`: the mean over the candidates.
    """
    scores, labels = clean(scores, targets, mask)
    beta = 1 - t * (1 - sampling)
    return mean(torch.where(labels > 0, beta * penalty(scores), penalty(-scores)), mask)


def _balance(positive: Tensor, mask: Tensor) -> Tensor:
    """Negatives per positive, 1 without the one or the other: `[lists, 1]`, in double precision."""
    positives = positive.sum(dim=1, keepdim=True, dtype=torch.float64)
    negatives = (mask & ~positive).sum(dim=1, keepdim=True, dtype=torch.float64)
    return torch.where((positives > 0) & (negatives > 0), negatives / positives, 1)
