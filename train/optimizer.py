"""AdamW, and which parameter learns at which rate and decays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from secondstage.config import TrainConfig

from .layers import depths


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov and Hutter 2019) over `parameter_groups`."""
    return torch.optim.AdamW(parameter_groups(network, config), lr=config.learning_rate, fused=True)


def parameter_groups(network: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """The parameters that learn, by their share of the learning rate and by weight decay.

    A layer's share is `layer_decay` to the power of the layers above it (Howard and Ruder 2018, discriminative
    fine-tuning); what stands above the layers, the head, has the full rate, the embeddings one power more than the
    lowest layer. One-dimensional parameters, which are biases and normalisation, do not decay.

    Returns:
        Groups with `params`, `weight_decay`, and `scale`, which the learning rate is to be multiplied by; those with
        the full rate first.
    """
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for depth, parameter in _depths(network, config.layer_decay):
        if not parameter.requires_grad:
            continue
        scale, decays = config.layer_decay**depth, parameter.ndim > 1
        empty = {"params": [], "weight_decay": config.weight_decay if decays else 0.0, "scale": scale}
        groups.setdefault((scale, decays), empty)["params"].append(parameter)
    return [groups[key] for key in sorted(groups, reverse=True)]


def _depths(network: nn.Module, decay: float) -> Iterator[tuple[int, nn.Parameter]]:
    """Every parameter once, with the number of layers above it; 0 for those of the head, too."""
    # Families whose layers cannot be told apart are refused only where it matters.
    found = depths(network) if decay < 1 else {}
    top = max(found.values(), default=1) - 1
    for name, parameter in network.named_parameters():
        yield max(0, top - found.get(name, top)), parameter
