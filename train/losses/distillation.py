"""Losses on a teacher's scores."""

from __future__ import annotations

import torch
from torch import Tensor

from secondstage.config.loss import Pairs

from .countable import different
from .masked import better, clean, differences, mean, penalty, sunk
from .ranks import discounts, mean_ranks, soft_ranks


def mse(scores: Tensor, targets: Tensor, *, mask: Tensor) -> Tensor:
    """(s − t)² (Ba and Caruana 2014): the student takes over the teacher's scale, too.

    Args:
        scores: `[lists, candidates]`; so targets and mask.
        targets: the teacher's scores.
        mask: true where a candidate counts.

    Returns:
        `[lists]`: the mean over the candidates.
    """
    scores, teacher = clean(scores, targets, mask)
    return mean((scores - teacher) ** 2, mask)


def margin_mse(
    scores: Tensor, targets: Tensor, *, mask: Tensor, labels: Tensor | None = None, pairs: Pairs = "all"
) -> Tensor:
    """(s_i − s_j − (t_i − t_j))² over pairs (Hofstätter et al. 2020, 2010.02666): the scale, but not where it begins.

    Args:
        scores: `[lists, candidates]`; so targets, mask and labels.
        targets: the teacher's scores.
        mask: true where a candidate counts.
        labels: for the pairs positive_negative; NaN where there is none.
        pairs: all of a list, or those of a positive and a negative alone, as in the paper.

    Returns:
        `[lists]`: the mean over the pairs.
    """
    scores, teacher = clean(scores, targets, mask)
    return mean(differences(scores - teacher) ** 2, _margins(mask, labels, pairs))


def has_margins(
    targets: Tensor, *, mask: Tensor, labels: Tensor | None = None, pairs: Pairs = "all", **_: object
) -> Tensor:
    """Lists with a pair for `margin_mse`, whose arguments these are: bool `[lists]`."""
    return _margins(mask, labels, pairs).any(dim=2).any(dim=1)


def kl(scores: Tensor, targets: Tensor, *, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """T² KL(softmax(t / T) ‖ softmax(s / T)) (Hinton et al. 2015, 1503.02531); T² keeps the gradient's size.

    Args:
        scores: `[lists, candidates]`; so targets and mask.
        targets: the teacher's scores.
        mask: true where a candidate counts.
        temperature: T.

    Returns:
        `[lists]`.
    """
    scores, teacher = clean(scores, targets, mask)
    wanted = torch.log_softmax(sunk(teacher / temperature, mask), dim=1)
    found = torch.log_softmax(sunk(scores / temperature, mask), dim=1)
    return temperature**2 * (wanted.exp() * (wanted - found)).masked_fill(~mask, 0).sum(dim=1)


def ranknet_teacher(
    scores: Tensor, targets: Tensor, *, mask: Tensor, sigma: float = 1.0, weighted: bool = False
) -> Tensor:
    """RankNet over the teacher's order, as in Rank-DistiLLM (Schlatt et al. 2025, 2405.07920).

    Args:
        scores: `[lists, candidates]`; so targets and mask.
        targets: the teacher's scores.
        mask: true where a candidate counts.
        sigma: the steepness.
        weighted: whether a pair weighs as much as the teacher's scores of its two differ.

    Returns:
        `[lists]`: the mean over the pairs that the teacher tells apart, by weight.
    """
    scores, teacher = clean(scores, targets, mask)
    pairs = better(teacher, mask)
    return mean(penalty(sigma * differences(scores)), pairs * differences(teacher) if weighted else pairs)


def adr_mse(scores: Tensor, targets: Tensor, *, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Approximate discounted rank MSE: (r − r̂)² / log2(1 + r) (Schlatt et al. 2025, 2405.07920).

    r is the rank by the teacher, r̂ the soft one by the scores.

    Args:
        scores: `[lists, candidates]`; so targets and mask.
        targets: the teacher's scores; equal ones share the mean of their ranks.
        mask: true where a candidate counts.
        temperature: of the soft ranks.

    Returns:
        `[lists]`: the mean over the candidates; 0 if the teacher tells none apart.
    """
    scores, teacher = clean(scores, targets, mask)
    wanted = mean_ranks(teacher, mask).to(scores.dtype)
    errors = (wanted - soft_ranks(scores, mask, temperature)) ** 2 / discounts(wanted)
    return mean(errors, mask & different(teacher, mask=mask)[:, None])


def _margins(mask: Tensor, labels: Tensor | None, pairs: Pairs) -> Tensor:
    """Bool `[lists, candidates, candidates]`, each pair once."""
    if pairs == "all":
        return (mask[:, :, None] & mask[:, None, :]).triu(diagonal=1)
    if labels is None:
        raise ValueError("margin_mse over pairs of a positive and a negative wants labels")
    # Neither comparison is true of NaN.
    return (mask & (labels > 0))[:, :, None] & (mask & (labels <= 0))[:, None, :]
