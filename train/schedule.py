"""The learning rate over the budget: up during the warm-up, then as the schedule says."""

from __future__ import annotations

from math import cos, pi
from typing import Literal

Schedule = Literal["linear", "cosine", "constant"]


def rate(progress: float, warmup: float, schedule: Schedule = "linear") -> float:
    """The share of the learning rate.

    Args:
        progress: the share of the budget that is used, from 0; from 1 on the budget is used up.
        warmup: the share of it in which the rate rises, linearly from 0.
        schedule: what follows: linear or half a cosine (Loshchilov and Hutter 2017), both to 0; or constant.
    """
    if progress < warmup:
        return progress / warmup
    if schedule == "constant":
        return 1.0
    left = max(0.0, 1 - progress) / max(1 - warmup, 1e-9)
    return left if schedule == "linear" else (1 - cos(pi * left)) / 2
