"""A student that is cut from a teacher: some of its layers, with its embeddings and its head."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

from secondstage.errors import UserError

from .layers import layers_of, select_per_layer

Keep = Literal["every", "first", "last"]


class Student(NamedTuple):
    """A network with fewer layers.

    Attributes:
        network: a new one, which shares no weights with the teacher.
        stands_for: `[layers]` of the teacher, by index from 0: the one that each layer was copied from.
    """

    network: Any
    stands_for: tuple[int, ...]


def kept_layers(count: int, layers: int, keep: Keep) -> tuple[int, ...]:
    """Which of `count` layers a student keeps, by index from 0, ascending.

    Every n-th is that which ends each of `layers` parts as even as can be, so the last one is among them.

    Raises:
        UserError: there are fewer layers.
    """
    if layers > count:
        raise UserError(
            f"train.student.layers is {layers}, but the model has {count} layers: a student has as many at most"
        )
    if keep == "first":
        return tuple(range(layers))
    if keep == "last":
        return tuple(range(count - layers, count))
    return tuple(-(-(i + 1) * count // layers) - 1 for i in range(layers))


def cut(network: Any, layers: int, keep: Keep) -> Student:
    """Cut a student out of a network, of the same class and with a configuration of its own.

    Where the lowest layer is made otherwise than those above, the student's is made like the lowest: in ModernBERT it
    has no normalisation before its attention, for the embeddings have one.

    Raises:
        UserError: there are fewer layers, or they cannot be told apart.
    """
    import torch

    _, own, path = layers_of(network)
    kept = kept_layers(len(own), layers, keep)
    config = copy.deepcopy(network.config)
    text = config.get_text_config()
    per_layer = select_per_layer(text.to_dict(), len(own), kept)
    text.num_hidden_layers = layers
    for name, values in per_layer.items():
        setattr(text, name, values)
    # The weights that it is made with are all overwritten: the generator stays where it was. A student of a network on
    # the meta device, which has no weights, has none either.
    bare = network.device if network.device.type == "meta" else nullcontext()
    with torch.random.fork_rng(devices=[]), bare:
        student = type(network)._from_config(config)
    weights = network.state_dict()
    for i, index in enumerate(kept):
        old, new = f"{path}.{index}.", f"{path}.{i}."
        layer = {name.removeprefix(old): value for name, value in weights.items() if name.startswith(old)}
        wanted = student.get_submodule(new[:-1]).state_dict()
        student.get_submodule(new[:-1]).load_state_dict({name: layer[name] for name in wanted})
    rest = {name: value for name, value in weights.items() if not name.startswith(f"{path}.")}
    student.load_state_dict(rest, strict=False)
    student.train(network.training)
    return Student(student.to(network.device, network.dtype), kept)
