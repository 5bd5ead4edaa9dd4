"""Which lists have something to compare: from targets and mask alone, so that it is known before any forward pass."""

from __future__ import annotations

from torch import Tensor

from .masked import better


def some(targets: Tensor, *, mask: Tensor, **_: object) -> Tensor:
    """Lists with a candidate: bool `[lists]`, as all of these, from `[lists, candidates]`."""
    return mask.any(dim=1)


def two(targets: Tensor, *, mask: Tensor, **_: object) -> Tensor:
    """Lists with two candidates."""
    return mask.sum(dim=1) > 1


def different(targets: Tensor, *, mask: Tensor, **_: object) -> Tensor:
    """Lists with two candidates of different targets."""
    return better(targets, mask).any(dim=2).any(dim=1)


def positive_and_negative(targets: Tensor, *, mask: Tensor, **_: object) -> Tensor:
    """Lists with a label above 0 and one of 0."""
    return (mask & (targets > 0)).any(dim=1) & (mask & (targets <= 0)).any(dim=1)
