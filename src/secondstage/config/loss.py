"""What a training minimises: a weighted sum of losses, each with its own settings."""

from __future__ import annotations

from collections.abc import Iterable

from .base import Positive, Section

# Losses that compare with a teacher's scores; all others compare with labels.
ON_TEACHER = ("adr_mse", "kl", "margin_mse", "mse", "ranknet_teacher")


class LossTerm(Section):
    """One loss of the sum."""

    weight: Positive = 1.0


def on_teacher(losses: Iterable[str]) -> bool:
    """Whether one of the losses named compares with a teacher's scores."""
    return any(name in ON_TEACHER for name in losses)


def on_labels(losses: Iterable[str]) -> bool:
    """Whether one of them compares with labels."""
    return any(name not in ON_TEACHER for name in losses)
