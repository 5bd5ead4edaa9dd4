"""Losses on labels that follow nDCG."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from secondstage.config.loss import Scheme

from .countable import different
from .masked import better, clean, differences, penalty
from .ranks import discounts, hard_ranks, normalised_gains, soft_ranks


def lambdaloss(
    scores: Tensor,
    targets: Tensor,
    *,
    mask: Tensor,
    scheme: Scheme = "ndcg2++",
    k: int | None = None,
    sigma: float = 1.0,
    mu: float = 10.0,
) -> Tensor:
    """Weighted RankNet: bounds on what a list loses in nDCG (Wang et al. 2018).

    A pair costs w log2(1 + exp(−σ (s⁺ − s⁻))). With G, gains over the best DCG, D(r) = log2(1 + r), and ranks r by the
    scores as they are (no gradient passes them), w is

    - ndcg1: G⁺ / D(r⁺), and all pairs whose first is a positive count, also two positives, either way;
    - ndcg2: |1/D(d) − 1/D(d + 1)| |G⁺ − G⁻|, d the distance of the ranks: a tighter bound;
    - lambdarank: |1/D(r⁺) − 1/D(r⁻)| |G⁺ − G⁻|, what nDCG changes by if both swap ranks (Burges et al. 2006);
    - ndcg2++: lambdarank + mu × ndcg2.

    Args:
        scores: `[lists, candidates]`; so targets and mask.
        targets: labels.
        mask: true where a candidate counts.
        scheme: the weights.
        k: for nDCG@k: pairs with one of them among the first k count (equation 18). None for all.
        sigma: the steepness σ.
        mu: the share of ndcg2 in ndcg2++.

    Returns:
        `[lists]`: the sum over the pairs, as in the paper; 0 if all labels are the same.
    """
    scores, labels = clean(scores, targets, mask)
    ranks = hard_ranks(scores, labels, mask).to(scores.dtype)
    pairs = better(labels, mask)
    if scheme == "ndcg1":
        itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        comparable = mask & different(labels, mask=mask)[:, None]
        pairs = comparable[:, :, None] & comparable[:, None, :] & ~itself
    if k is not None:
        pairs = pairs & ((ranks[:, :, None] <= k) | (ranks[:, None, :] <= k))
    weights = _weights(normalised_gains(labels, k), ranks, scheme, mu)
    costs = weights * penalty(sigma * differences(scores)) / log(2)
    return costs.masked_fill(~pairs, 0).sum(dim=(1, 2))


def approx_ndcg(scores: Tensor, targets: Tensor, *, mask: Tensor, temperature: float = 0.1) -> Tensor:
    """1 − nDCG of soft ranks (Qin, Liu and Li 2010; Bruch et al. 2019).

    Args:
        scores: `[lists, candidates]`; so targets and mask.
        targets: labels.
        mask: true where a candidate counts.
        temperature: of the soft ranks; the higher, the further from nDCG and the smoother.

    Returns:
        `[lists]`, from 0 to 1; 0 if all labels are the same.
    """
    scores, labels = clean(scores, targets, mask)
    found = (normalised_gains(labels) / discounts(soft_ranks(scores, mask, temperature))).sum(dim=1)
    return (1 - found).masked_fill(~different(labels, mask=mask), 0)


def _weights(gains: Tensor, ranks: Tensor, scheme: Scheme, mu: float) -> Tensor:
    """`[lists, candidates, candidates]`, of the pairs i, j."""
    if scheme == "ndcg1":
        return (gains / discounts(ranks))[:, :, None]
    apart = differences(ranks).abs().clamp(min=1)  # 0 only of a candidate and itself
    by_distance = 1 / discounts(apart) - 1 / discounts(apart + 1)
    by_swap = differences(1 / discounts(ranks)).abs()
    shares = {"ndcg2": by_distance, "lambdarank": by_swap, "ndcg2++": by_swap + mu * by_distance}
    return shares[scheme] * differences(gains).abs()
