"""Losses on labels over the pairs of a list in which one candidate has the higher label."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import relu

from .masked import better, clean, differences, mean, penalty
from .ranks import gains


def hinge(scores: Tensor, targets: Tensor, *, mask: Tensor, margin: float = 1.0) -> Tensor:
    """max(0, margin − (s⁺ − s⁻)), as in the ranking SVM (Joachims 2002).

    Args:
        scores: `[lists, candidates]`; so targets and mask.
        targets: labels.
        mask: true where a candidate counts.
        margin: how far the better one must be ahead.

    Returns:
        `[lists]`: the mean over the pairs.
    """
    scores, labels = clean(scores, targets, mask)
    return mean(relu(margin - differences(scores)), better(labels, mask))


def ranknet(scores: Tensor, targets: Tensor, *, mask: Tensor, sigma: float = 1.0, weighted: bool = False) -> Tensor:
    """log(1 + exp(−σ (s⁺ − s⁻))) (Burges et al. 2005).

    Args:
        scores: `[lists, candidates]`; so targets and mask.
        targets: labels.
        mask: true where a candidate counts.
        sigma: the steepness σ.
        weighted: whether a pair weighs as much as the gains 2^label − 1 of its two differ.

    Returns:
        `[lists]`: the mean over the pairs, by weight.
    """
    scores, labels = clean(scores, targets, mask)
    pairs = better(labels, mask)
    return mean(penalty(sigma * differences(scores)), pairs * differences(gains(labels)) if weighted else pairs)
