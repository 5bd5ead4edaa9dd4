"""Low-rank adapters (Hu et al. 2021, LoRA), by peft: small matrices are tuned in place of the layers' own."""

from __future__ import annotations

from typing import Any

from torch import nn

from secondstage.config.train import LoraConfig
from secondstage.errors import UserError

from .layers import depths, layers_of


def adapt(network: Any, config: LoraConfig) -> None:
    """Put adapters around linear layers, in place; their weights are drawn from torch's global generator.

    Tuned are the adapters and what comes after the layers: last normalisation, pooler and head. Embeddings are not.
    Layers that are frozen get no adapters. Writing the model merges them (`networks.merged`).

    Raises:
        UserError: peft is not installed, or no linear layer has a name of `config.targets`.
    """
    try:
        from peft import LoraConfig as Settings
        from peft import inject_adapter_in_model
    except ImportError:
        raise UserError("train.lora needs peft: pip install 'secondstage[lora]'") from None
    targets = targets_of(network, config)
    top = len(layers_of(network).layers) + 1
    tuned = {name for name, depth in depths(network).items() if depth == top}
    tuned &= {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    settings = Settings(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type] # any number will do
        lora_dropout=config.dropout,
        target_modules=targets,
        fan_in_fan_out=not isinstance(network.get_submodule(targets[0]), nn.Linear),
    )
    inject_adapter_in_model(settings, network)
    for name, parameter in network.named_parameters():
        if name in tuned:
            parameter.requires_grad_(True)


def targets_of(network: Any, config: LoraConfig) -> list[str]:
    """Names in full of the layers that get an adapter: linear ones, GPT-2's kind included, that are not frozen.

    Raises:
        UserError: none has a name that is asked for.
    """
    from transformers.pytorch_utils import Conv1D

    _, layers, path = layers_of(network)
    linear = [
        f"{path}.{name}"
        for name, module in layers.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module.weight.requires_grad
    ]
    if not linear:
        raise UserError("train.lora: all layers are frozen, so there is nothing to adapt: lower train.freeze_layers")
    unknown = [wanted for wanted in config.targets if not any(f".{name}".endswith(f".{wanted}") for name in linear)]
    if unknown:
        names = sorted({name.removeprefix(f"{path}.").partition(".")[2] for name in linear})
        raise UserError(
            f"train.lora.targets: no linear layer is named {', '.join(unknown)}; there are {', '.join(names)}"
        )
    if not config.targets:
        return linear
    return [name for name in linear if any(f".{name}".endswith(f".{wanted}") for wanted in config.targets)]
