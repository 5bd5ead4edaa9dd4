"""AdamW, and which parameter learns at which rate and decays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import torch
from torch import nn

from secondstage.config import TrainConfig
from secondstage.errors import UserError


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov and Hutter 2019) over `parameter_groups`.

    Raises:
        UserError: nothing is left to learn.
    """
    return torch.optim.AdamW(parameter_groups(network, config), lr=config.learning_rate, fused=True)


def parameter_groups(network: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """The parameters that learn, by their share of the learning rate and by weight decay.

    A layer's share is `layer_decay` to the power of the layers above it (Howard and Ruder 2018, discriminative
    fine-tuning); what stands above the layers, the head, has the full rate, the embeddings one power more than the
    lowest layer. One-dimensional parameters, which are biases and normalisation, do not decay.

    Returns:
        Groups with `params`, `weight_decay`, and `scale`, which the learning rate is to be multiplied by; those with
        the full rate first.

    Raises:
        UserError: all parameters are frozen.
    """
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for depth, parameter in _depths(network):
        if not parameter.requires_grad:
            continue
        scale, decays = config.layer_decay**depth, parameter.ndim > 1
        empty = {"params": [], "weight_decay": config.weight_decay if decays else 0.0, "scale": scale}
        groups.setdefault((scale, decays), empty)["params"].append(parameter)
    if not groups:
        raise UserError(
            "every weight of the model is frozen, so there is nothing to train: lower train.freeze_layers, or set "
            "train.steps=0 to take the model as it is"
        )
    return [groups[key] for key in sorted(groups, reverse=True)]


def _depths(network: nn.Module) -> Iterator[tuple[int, nn.Parameter]]:
    """Every parameter once, with the number of layers above it; 0 for those of the head, too.

    What embeds is every embedding, and what the body, which holds them and the layers, has before the layers: models
    register the parts of their body in the order of the forward pass. A head may be registered before the body.
    """
    layers, count = _layers(network)
    modules = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Embedding)]
    embeddings = {id(parameter) for _, module in modules for parameter in module.parameters()}
    body = _common(layers, *(name for name, _ in modules)) if modules else ""
    before = count > 0
    for name, parameter in network.named_parameters():
        inside = count > 0 and name.startswith(f"{layers}.")
        before = before and not inside
        if inside:
            number = name.removeprefix(f"{layers}.").partition(".")[0]
            yield count - 1 - int(number), parameter
        elif id(parameter) in embeddings or (before and name.startswith(body)):
            yield count, parameter
        else:
            yield 0, parameter


def _layers(network: nn.Module) -> tuple[str, int]:
    """The name of the list of layers, and how many there are: 0 if there is no such list.

    It is the longest list of modules that is not part of another one, as experts are part of their layer.
    """
    lists = {name: len(module) for name, module in network.named_modules() if isinstance(module, nn.ModuleList)}
    outer = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    longest = max(outer, key=lambda name: lists[name], default="")
    return longest, lists.get(longest, 0)


def _common(*names: str) -> str:
    """The innermost module that holds all of these, as the beginning of its parameters' names."""
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*(name.split(".") for name in names), strict=False))
    return "".join(f"{parts[0]}." for parts in shared)
