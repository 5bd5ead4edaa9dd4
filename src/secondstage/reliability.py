"""How well probabilities hold: reliability bins, expected calibration error, log loss."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
EPSILON = 1e-12


class Bin(NamedTuple):
    """Pairs of similar probability: the mean of it, the share of relevant ones, and how many pairs there are."""

    probability: float
    relevant: float
    pairs: int


def reliability(probabilities: ArrayLike, relevant: ArrayLike, bins: int = 15) -> list[Bin]:
    """The bins of a reliability diagram, of equal width, from low to high; empty ones are left out."""
    values, labels = as_pairs(probabilities, relevant)
    places = np.minimum((values * bins).astype(np.int64), bins - 1)
    return [
        Bin(float(values[inside].mean()), float(labels[inside].mean()), int(inside.sum()))
        for inside in (places == place for place in np.unique(places))
    ]


def expected_calibration_error(probabilities: ArrayLike, relevant: ArrayLike, bins: int = 15) -> float:
    """The mean over pairs of |probability - share of relevant| of the pair's bin (Naeini et al. 2015); 0 for none."""
    found = reliability(probabilities, relevant, bins)
    total = sum(part.pairs for part in found)
    return sum(part.pairs * abs(part.probability - part.relevant) for part in found) / total if total else 0.0


def log_loss(probabilities: ArrayLike, relevant: ArrayLike) -> float:
    """The mean of -log of the probability given to what is true, in nats, each at least `EPSILON`; 0 for none."""
    values, labels = as_pairs(probabilities, relevant)
    right = np.maximum(np.where(labels, values, 1.0 - values), EPSILON)
    return -float(np.log(right).mean()) if len(right) else 0.0


def as_pairs(scores: ArrayLike, relevant: ArrayLike) -> tuple[Floats, Mask]:
    """Both as arrays; `ValueError` if they are not finite or not of one length."""
    values, labels = np.asarray(scores, np.float64), np.asarray(relevant, np.bool_)
    if values.ndim != 1 or values.shape != labels.shape or not np.isfinite(values).all():
        raise ValueError(f"scores {values.shape} and relevance {labels.shape} must be two finite lists of one length")
    return values, labels
