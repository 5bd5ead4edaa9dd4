"""The last layer for the first token alone, where the head reads no other: the same scores for less work.

A cross-encoder's head reads the first token. What the last layer makes of the others nobody sees: their queries, their
attention and their feed-forward network are left out, which is most of a layer, a seventh of a model with six. The
result is the same in exact arithmetic, forwards and backwards.
"""

from __future__ import annotations

import sys
from types import MethodType
from typing import Any

# Networks of BERT's layers whose head reads the first token.
FAMILIES = frozenset(
    f"{family}ForSequenceClassification" for family in ("Bert", "Camembert", "Electra", "Roberta", "XLMRoberta")
)


def read_first_token(network: Any) -> bool:
    """Have the last layer compute the first token alone, if the network is one of these. Returns whether it does.

    No weight changes, and what is saved is the same.
    """
    layer = _last_layer(network)
    if layer is None:
        return False
    layer.forward = MethodType(_first_token, layer)
    return True


def read_all_tokens(network: Any) -> None:
    """Undo it, for whoever looks at the states of all tokens."""
    if (layer := _last_layer(network)) is not None:
        layer.__dict__.pop("forward", None)


def _last_layer(network: Any) -> Any:
    if type(network).__name__ not in FAMILIES or network.config.is_decoder:
        return None
    return network.base_model.encoder.layer[-1]


def _first_token(self: Any, hidden_states: Any, attention_mask: Any = None, *_: Any, **__: Any) -> Any:
    """The layer's output `[pairs, 1, width]`, of the attention of the first token to all.

    Args:
        self: the layer.
        hidden_states: `[pairs, tokens, width]`.
        attention_mask: what is added to the attention of `[pairs, heads, tokens, tokens]`, or where it is; or none.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    attention = self.attention.self
    first = hidden_states[:, :1]

    def heads(values: Any) -> Any:
        return values.view(*values.shape[:2], -1, attention.attention_head_size).transpose(1, 2)

    compute = ALL_ATTENTION_FUNCTIONS.get_interface(
        attention.config._attn_implementation, sys.modules[type(attention).__module__].eager_attention_forward
    )
    found, _ = compute(
        attention,
        heads(attention.query(first)),
        heads(attention.key(hidden_states)),
        heads(attention.value(hidden_states)),
        None if attention_mask is None else attention_mask[:, :, :1],
        dropout=attention.dropout.p if self.training else 0.0,
        scaling=attention.scaling,
    )
    attended = self.attention.output(found.reshape(*first.shape[:2], -1).contiguous(), first)
    return self.feed_forward_chunk(attended)
