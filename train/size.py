"""How large a model is, and what memory its training takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from secondstage.compute import device


class Size(NamedTuple):
    """The model, and the machine that it is trained on.

    Attributes:
        parameters: all of them.
        trained: those that are tuned.
        embeddings: those of the tokens' embeddings.
        layers: of the encoder or decoder.
        hidden: width of a layer.
        heads: of attention.
        new_head: whether the head is still random.
        half: whether it computes in 16 bits.
        memory: of the device, in bytes; 0 if it is not known.
        processes: that share a step.
        spread: whether they share the weights, too.
    """

    parameters: int
    trained: int
    embeddings: int
    layers: int
    hidden: int
    heads: int
    new_head: bool
    half: bool
    memory: int = 0
    processes: int = 1
    spread: bool = False


def size_of(network: Any, *, new_head: bool, half: bool) -> Size:
    """The size of a transformers model whose frozen weights ask for no gradient.

    Args:
        network: the model that is trained.
        new_head: whether its head is still random.
        half: whether it computes in 16 bits.
    """
    shape = network.config.get_text_config()
    try:
        embeddings = numbers(network.get_input_embeddings().weight)
    except (NotImplementedError, AttributeError):  # a model that hashes characters has no table
        embeddings = 0
    counts = [(numbers(parameter), parameter.requires_grad) for parameter in network.parameters()]
    return Size(
        parameters=sum(count for count, _ in counts),
        trained=sum(count for count, learns in counts if learns),
        embeddings=embeddings,
        layers=shape.num_hidden_layers,
        hidden=shape.hidden_size,
        heads=shape.num_attention_heads,
        new_head=new_head,
        half=half,
        memory=device_memory(),
    )


def numbers(parameter: Any) -> int:
    """How many a parameter has over all processes: DeepSpeed leaves an empty one where it spreads it."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def device_memory() -> int:
    """Bytes of the device that this process may use at most; 0 if it is not known.

    On a CPU, what a container may use counts where it is less than the machine has.
    """
    import torch

    if device().startswith("cuda"):
        return int(torch.cuda.get_device_properties(device()).total_memory)
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return 0
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text(encoding="ascii").strip() if limit.is_file() else ""
    return min(whole, int(allowed)) if allowed.isdecimal() else whole


def weight_bytes(model: Size) -> int:
    """Memory of weights, gradients and AdamW's two moments: in 16 bits, a working copy comes on top of the master's."""
    whole = model.parameters * (6 if model.half else 4) + model.trained * (8 + (6 if model.half else 4))
    return whole // model.processes if model.spread else whole


def token_bytes(model: Size, length: float, *, checkpointing: bool = False) -> float:
    """Memory of the activations of one token that are kept for the backward pass.

    By the count of Korthikanti et al. 2022 (2205.05198), without dropout: 16 numbers of a layer's width, and one for
    each head and each token attended to. With gradient checkpointing only the input of each layer, and one whole layer.

    Args:
        model: its shape.
        length: tokens of a pair.
        checkpointing: whether activations are computed again.
    """
    layer = 16 * model.hidden + model.heads * length
    numbers = model.layers * model.hidden + layer if checkpointing else model.layers * layer
    return numbers * (2 if model.half else 4)
