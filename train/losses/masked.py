"""What all losses share: candidates that do not count are as if they were not there, in value and in gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def clean(scores: Tensor, targets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and targets in single precision, or double where the scores are, and 0 where the mask is false.

    Zeroing comes first, not last: the gradient through a NaN is NaN even where its value is not used.
    """
    wide = torch.promote_types(scores.dtype, torch.float32)
    return scores.to(wide).masked_fill(~mask, 0), targets.to(wide).masked_fill(~mask, 0)


def mean(values: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean over all dimensions but the first, 0 where all weights are: `[lists]`.

    Args:
        values: `[lists, …]`; what weighs nothing may be infinite.
        weights: of the same shape, at least 0; bool for a plain mean over where it is true.
    """
    weights = weights.to(values.dtype).flatten(1)
    total = weights.sum(dim=1)
    weighted = (values.flatten(1).masked_fill(weights == 0, 0) * weights).sum(dim=1)
    return weighted / torch.where(total > 0, total, 1)


def sunk(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores so low where the mask is false that no softmax sees them, yet finite: its gradient stays so, too."""
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min / 4)


def better(targets: Tensor, mask: Tensor) -> Tensor:
    """The pairs to compare, `[lists, candidates, candidates]`: true at i, j if both count and i's target is higher."""
    return (targets[:, :, None] > targets[:, None, :]) & mask[:, :, None] & mask[:, None, :]


def differences(values: Tensor) -> Tensor:
    """`[lists, candidates, candidates]`: that of i less that of j."""
    return values[:, :, None] - values[:, None, :]


def penalty(margins: Tensor) -> Tensor:
    """log(1 + exp(−margin)), the price of the one score being no higher above the other: safe at any size."""
    return -logsigmoid(margins)
