"""Losses on labels over whole lists. But for ListNet, candidates with the same label do not compete with each other."""

from __future__ import annotations

import torch
from torch import Tensor

from .countable import different
from .masked import better, clean, mean, penalty, sunk


def lce(scores: Tensor, targets: Tensor, *, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Localised contrastive estimation (Gao et al. 2021, 2101.08751), which is InfoNCE (1807.03748) within a list.

    Each positive, by itself, against all negatives: −log(exp(s⁺) / (exp(s⁺) + Σ exp(s⁻))).

    Args:
        scores: `[lists, candidates]`; so targets and mask.
        targets: labels; above 0 is positive, whatever the grade.
        mask: true where a candidate counts.
        temperature: what the scores are divided by.

    Returns:
        `[lists]`: the mean over the positives.
    """
    scores, labels = clean(scores, targets, mask)
    positive = labels > 0
    scores = scores / temperature
    rivals = torch.logsumexp(sunk(scores, mask & ~positive), dim=1, keepdim=True)
    return mean(penalty(scores - rivals), positive)


def listnet(scores: Tensor, targets: Tensor, *, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy from softmax(labels) to softmax(scores), of their top-one probabilities (Cao et al. 2007).

    Args:
        scores: `[lists, candidates]`; so targets and mask.
        targets: labels.
        mask: true where a candidate counts.
        temperature: what the labels are divided by: of 0 and 1 alone, softmax makes little difference.

    Returns:
        `[lists]`; 0 if all labels are the same.
    """
    scores, labels = clean(scores, targets, mask)
    wanted = torch.softmax(sunk(labels / temperature, mask), dim=1)
    found = torch.log_softmax(sunk(scores, mask), dim=1)
    comparable = mask & different(labels, mask=mask)[:, None]
    return -(wanted * found).masked_fill(~comparable, 0).sum(dim=1)


def listmle(scores: Tensor, targets: Tensor, *, mask: Tensor) -> Tensor:
    """−log likelihood of the order of the labels under Plackett and Luce (Xia et al. 2008).

    A draw at each rank: the candidate against all that come after it. The paper knows no ties; here what has the same
    label does not compete, so no order among equals is invented: of binary labels this is the sum of `lce` over the
    positives.

    Args:
        scores: `[lists, candidates]`; so targets and mask.
        targets: labels.
        mask: true where a candidate counts.

    Returns:
        `[lists]`: the sum over the ranks.
    """
    scores, labels = clean(scores, targets, mask)
    return _against_worse(scores, better(labels, mask)).masked_fill(~mask, 0).sum(dim=1)


def p_listmle(scores: Tensor, targets: Tensor, *, mask: Tensor) -> Tensor:
    """Position-aware ListMLE (Lan et al. 2014): rank r of n weighs 2^(n − r) − 1, in shares of the sum of all.

    What has the same label shares the weights of the ranks that it takes up.

    Args:
        scores: `[lists, candidates]`; so targets and mask.
        targets: labels.
        mask: true where a candidate counts.

    Returns:
        `[lists]`: the mean over the ranks, by weight.
    """
    scores, labels = clean(scores, targets, mask)
    return mean(_against_worse(scores, better(labels, mask)), _position_weights(labels, mask))


def _against_worse(scores: Tensor, pairs: Tensor) -> Tensor:
    """−log(exp(s_i) / (exp(s_i) + Σ exp(s_j))) over the j that i, j is a pair with; 0 without one."""
    rivals = torch.logsumexp(sunk(scores[:, None, :].expand(pairs.shape), pairs), dim=2)
    return penalty(scores - rivals)


def _position_weights(labels: Tensor, mask: Tensor) -> Tensor:
    """`[lists, candidates]`: 2^(n − r) − 1 over 2^n, which overflows for no n, as the mean over the shared ranks r."""
    ahead = better(labels, mask).sum(dim=1).to(labels.dtype)
    ties = ((labels[:, :, None] == labels[:, None, :]) & mask[:, :, None]).sum(dim=1)
    # The sum of 2^−r over the ranks r from ahead + 1 to ahead + ties.
    shared = torch.exp2(-ahead) - torch.exp2(-ahead - ties)
    size = mask.sum(dim=1, keepdim=True).to(labels.dtype)
    return (shared / ties.clamp(min=1) - torch.exp2(-size)).clamp(min=0).masked_fill(~mask, 0)
