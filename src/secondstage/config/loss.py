"""What a training minimises: a weighted sum of losses, each with its own settings."""

from __future__ import annotations

from .base import Positive, Section


class LossTerm(Section):
    """One loss of the sum."""

    weight: Positive = 1.0
