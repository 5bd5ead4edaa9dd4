"""Averages of weights: over the steps of a training, and over its best checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from math import expm1, log
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secondstage.measures import Values, mean

Weights = dict[str, Tensor]
# Operations on many tensors at once, as torch's own optimizers use them: their names are private.
_torch: Any = torch


class Average:
    """The exponential moving average of parameters, without the bias to where it began.

    After t updates it is (1 - d) / (1 - d^t) times the sum of d^(t - i) p_i: weights that sum to 1, as in Adam (Kingma
    and Ba 2015). So the share of the newest parameters falls from 1 to 1 - d, and a short training is averaged as well.

    Attributes:
        decay: d, from 0 to below 1.
        updates: how many there were.
        tensors: the average, one tensor a parameter; before the first update the parameters as they were.
    """

    def __init__(self, decay: float, parameters: Iterable[Tensor]) -> None:
        """Begin with these parameters; all methods take them in this order."""
        self.decay, self.updates = decay, 0
        self.tensors = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self, parameters: Iterable[Tensor]) -> None:
        """Take the parameters after a step."""
        self.updates += 1
        _torch._foreach_lerp_(self.tensors, _detached(parameters), _share(self.decay, self.updates))

    @torch.no_grad()
    def swap(self, parameters: Iterable[Tensor]) -> None:
        """Exchange average and parameters; twice is never, to the bit."""
        current = _detached(parameters)
        kept = [tensor.clone() for tensor in current]
        _torch._foreach_copy_(current, self.tensors)
        _torch._foreach_copy_(self.tensors, kept)

    def state(self) -> dict[str, Any]:
        """What to go on from: a number, and the tensors themselves, not copies of them."""
        return {"updates": self.updates, "tensors": self.tensors}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, whatever device that is on."""
        self.updates = state["updates"]
        _torch._foreach_copy_(self.tensors, state["tensors"])


def _detached(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [parameter.detach() for parameter in parameters]


def _share(decay: float, updates: int) -> float:
    """(1 - d) / (1 - d^t), also where d is near 1."""
    return (1 - decay) / -expm1(updates * log(decay)) if decay else 1.0


class Leaders:
    """The names of the best checkpoints, the best first; of equally good ones the later is better."""

    def __init__(self, count: int, entries: Iterable[Sequence[Any]] = ()) -> None:
        """Keep up to `count`; `entries`, of an earlier object, come from JSON too."""
        self.count = count
        self.entries: list[tuple[str, float]] = [(str(name), float(value)) for name, value in entries]

    def enter(self, name: str, value: float, *, first: bool = False) -> list[str]:
        """Note a checkpoint, as the best whatever its value if it is to be `first`.

        Returns the names of those that are no longer kept, `name` itself perhaps among them.
        """
        better = (i for i, (_, other) in enumerate(self.entries) if first or value >= other)
        place = next(better, len(self.entries))
        self.entries.insert(place, (name, value))
        kept, dropped = self.entries[: self.count], self.entries[self.count :]
        self.entries = kept
        return [name for name, _ in dropped]


def mean_of(files: Sequence[Path]) -> Weights:
    """The mean of the weights in several safetensors files, a tensor at a time (Wortsman et al. 2022, "uniform soup").

    It is summed in double precision, so that the mean of equal weights is these very weights. What is no floating point
    number, a counter say, is that of the first file.

    Raises:
        ValueError: the files differ in the names or the shapes of their tensors.
    """
    from safetensors import safe_open

    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(file, framework="pt")) for file in files]
        names = list(opened[0].keys())
        for file, other in zip(files, opened, strict=True):
            if set(other.keys()) != set(names):
                raise ValueError(f"{file} holds other tensors than {files[0]}: they are not of one model")
        found = {}
        for name in names:
            first = opened[0].get_tensor(name)
            if not first.is_floating_point():
                found[name] = first
                continue
            total = first.double()
            for other in opened[1:]:
                tensor = other.get_tensor(name)
                if tensor.shape != first.shape:
                    raise ValueError(f"{name} has the shapes {tuple(first.shape)} and {tuple(tensor.shape)}")
                total += tensor
            found[name] = (total / len(opened)).to(first.dtype)
        return found


def average_best(
    files: Sequence[Path], best: float, measure: Callable[[Weights], Values]
) -> tuple[Weights, Values] | None:
    """The mean of several checkpoints and its values on dev, if it is better there than the best of them; else none.

    Args:
        files: safetensors files; one alone has no average.
        best: the value of the best checkpoint.
        measure: from weights to the value of each dev query.
    """
    if len(files) < 2:
        return None
    weights = mean_of(files)
    values = measure(weights)
    return (weights, values) if mean(values) > best else None
