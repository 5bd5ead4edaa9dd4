"""Listwise losses on labels."""

from __future__ import annotations

import torch
from torch import Tensor


def lce(scores: Tensor, *, mask: Tensor) -> Tensor:
    """Localised contrastive estimation: −log softmax of the positive among its list (Gao et al. 2021, 2101.08751).

    Args:
        scores: `[lists, candidates]`, the positive first.
        mask: `[lists, candidates]`, true where a candidate counts. A list without a negative contributes zero.

    Returns:
        The mean over the lists.
    """
    logits = scores.float().masked_fill(~mask, float("-inf"))
    return -torch.log_softmax(logits, dim=1)[:, 0].mean()
