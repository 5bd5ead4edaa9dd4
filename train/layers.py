"""Where a network's embeddings and layers are: the same for all families, by the shape of its modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from secondstage.errors import UserError


class Layers(NamedTuple):
    """The parts of a network, from below.

    Attributes:
        embeddings: all modules outside the layers that embed tokens, positions, segments or distances.
        layers: the list of layers, the lowest first: the network's own, not a copy.
        path: the name of the list in the network.
    """

    embeddings: nn.ModuleList
    layers: nn.ModuleList
    path: str


def layers_of(network: Any) -> Layers:
    """Find the embeddings and the layers.

    The layers are the outermost list of modules that has as many as the configuration says.

    Raises:
        UserError: there is no such list, or several: layers that share weights, an encoder and a decoder.
    """
    base = network.base_model
    count = _layer_count(network.config)
    lists = [
        (name, module)
        for name, module in base.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    depth = min((name.count(".") for name, _ in lists), default=0)
    found = [(name, module) for name, module in lists if name.count(".") == depth]
    if len(found) != 1 or network.config.is_encoder_decoder:
        raise UserError(
            f"the layers of a {network.config.model_type} model cannot be told apart, so none can be cut, frozen or "
            "given a learning rate of its own: leave out train.student, train.freeze_layers, train.freeze_embeddings, "
            "train.lora and train.layer_decay, or take a model of another family"
        )
    name, layers = found[0]
    (path,) = (path for path, module in network.named_modules() if module is layers)
    return Layers(_embeddings(base, name), layers, path)


def depths(network: Any) -> dict[str, int]:
    """How deep each parameter lies, by its name: 0 for embeddings, 1 for the lowest layer, layers + 1 for the rest.

    The rest is what comes after the layers: last normalisation, pooler and head.
    """
    embeddings, layers, path = layers_of(network)
    embedded = {id(parameter) for parameter in embeddings.parameters()}

    def depth(name: str, parameter: nn.Parameter) -> int:
        if id(parameter) in embedded:
            return 0
        if name.startswith(f"{path}."):
            return int(name.removeprefix(f"{path}.").partition(".")[0]) + 1
        return len(layers) + 1

    return {name: depth(name, parameter) for name, parameter in network.named_parameters()}


def select_per_layer(config: Mapping[str, Any], count: int, kept: tuple[int, ...]) -> dict[str, Any]:
    """The settings that hold one value a layer, such as `layer_types`, with those of the kept layers only.

    Args:
        config: all settings by name.
        count: layers that there are.
        kept: indices of those that stay.
    """
    lists = {
        name: value
        for name, value in config.items()
        if "layer" in name and isinstance(value, list | tuple) and len(value) == count
    }
    return {name: [value[i] for i in kept] for name, value in lists.items()}


def _layer_count(config: Any) -> int:
    return int(getattr(config.get_text_config(), "num_hidden_layers", -1))


def _embeddings(base: Any, layers: str) -> nn.ModuleList:
    """Tables of embeddings, and modules that are named after them: projections and normalisation belong to these."""
    found: dict[str, nn.Module] = {}
    for name, module in base.named_modules():
        inside = name == layers or name.startswith(f"{layers}.") or any(name.startswith(f"{seen}.") for seen in found)
        if not inside and (isinstance(module, nn.Embedding) or "embed" in name.rpartition(".")[2]):
            found[name] = module
    return nn.ModuleList(found.values())
