"""Attention for training on a CPU: scale and mask are part of the matrix product instead of passes of their own.

The scores of all heads, `[pairs, heads, tokens, tokens]`, are the largest thing that a layer makes. Eager attention
reads and writes them once for the scale and once for the mask, forwards, and again backwards: as much time as a tenth
of a step's matrix products. Here `baddbmm` does both while it multiplies (Vaswani et al. 2017, the same formula).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

NAME = "scores_in_one_product"


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """softmax(scaling · query · keyᵀ + mask) · value.

    Args:
        module: the layer that calls.
        query: `[pairs, heads, tokens, width]`.
        key: `[pairs, heads, others, width]`.
        value: the same.
        attention_mask: what is added to the scores, broadcast to `[pairs, heads, tokens, others]`; or none.
        scaling: of the scores.
        dropout: the share of the attention that is dropped while training.

    Returns:
        `[pairs, tokens, heads, width]`, and the attention.
    """
    pairs, heads, tokens, width = query.shape
    others = key.shape[2]
    scores_shape = (pairs * heads, tokens, others)
    if attention_mask is None:
        added = query.new_zeros(1, 1, 1)
    else:
        added = attention_mask.to(query.dtype).expand(pairs, heads, tokens, others).reshape(scores_shape)
    flat = [states.reshape(pairs * heads, -1, width) for states in (query, key, value)]
    scores = torch.baddbmm(added, flat[0], flat[1].transpose(1, 2), alpha=scaling)
    attention = torch.softmax(scores, dim=-1)
    dropped = torch.nn.functional.dropout(attention, p=dropout, training=module.training)
    found = torch.bmm(dropped, flat[2]).view(pairs, heads, tokens, width)
    return found.transpose(1, 2).contiguous(), attention.view(pairs, heads, tokens, others)


def use(network: Any) -> None:
    """Have a network of BERT's layers attend so."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, eager_mask)
    network.set_attn_implementation(NAME)
