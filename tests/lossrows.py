"""Rows of numbers as the arguments of a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

NAN = float("nan")
Row = Sequence[float]


def folded(rows: Sequence[Row], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Rows of any length as one tensor, NaN where there is none, and the mask of what there is."""
    width = max(map(len, rows))
    values = torch.tensor([[*row, *[NAN] * (width - len(row))] for row in rows], dtype=dtype)
    mask = torch.tensor([[i < len(row) for i in range(width)] for row in rows])
    return values, mask


def values(loss: Callable[..., Tensor], scores: Sequence[Row], targets: Sequence[Row], **settings: Any) -> list[float]:
    """One value a list."""
    given, mask = folded(scores, torch.float64)
    found: list[float] = loss(given, folded(targets, torch.float64)[0], mask=mask, **settings).tolist()
    return found


def value(loss: Callable[..., Tensor], scores: Row, targets: Row, **settings: Any) -> float:
    """Of one list, among others that are shorter and longer."""
    return values(loss, [[1.5, -2], scores, [0.0] * 9], [[0, 1], targets, [1.0] * 9], **settings)[1]
