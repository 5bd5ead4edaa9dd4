"""Which weights are not tuned."""

from __future__ import annotations

from typing import Any

from secondstage.errors import UserError

from .layers import layers_of


def freeze(network: Any, *, embeddings: bool, layers: int) -> None:
    """Keep embeddings and the lowest layers as they are: their parameters need no gradient.

    The answers of a decoder whose head is its embeddings are frozen with these.

    Raises:
        UserError: there are fewer layers.
    """
    if not embeddings and not layers:
        return
    parts = layers_of(network)
    if layers > len(parts.layers):
        raise UserError(f"train.freeze_layers is {layers}, but the model has {len(parts.layers)} layers: give no more")
    if embeddings:
        parts.embeddings.requires_grad_(False)
    for layer in parts.layers[:layers]:
        layer.requires_grad_(False)
