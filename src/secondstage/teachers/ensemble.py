"""Several teachers of one opinion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..run import Scores


def combine(scores: Sequence[Scores | None], weights: Sequence[float]) -> Scores:
    """The weighted mean of the teachers' scores of one list, each brought to mean 0 and standard deviation 1 in it.

    Teachers score on scales of their own, logits, probabilities, ranks: only within a list, and only after scaling, can
    they be added. A teacher that gives all candidates the same score has no say.

    A candidate that some of them did not score has the mean of those that did.

    Args:
        scores: `[candidates]` scores of each teacher, finite, or NaN where it gave none; none of one that did not score
            this list.
        weights: of each teacher, positive.

    Returns:
        `[candidates]` scores, NaN for what no teacher scored; those of a single teacher as they are.

    Raises:
        ValueError: no teacher scored the list, they scored different numbers of candidates, or one is infinite.
    """
    given = [(values, weight) for values, weight in zip(scores, weights, strict=True) if values is not None]
    if not given:
        raise ValueError("no teacher scored this list")
    if len({len(values) for values, _ in given}) != 1:
        raise ValueError(f"teachers scored {', '.join(str(len(values)) for values, _ in given)} candidates of one list")
    if any(np.isinf(values).any() for values, _ in given):
        raise ValueError("a teacher's score is infinite")
    if len(scores) == 1:
        return given[0][0]
    scaled = np.stack([standard(values) for values, _ in given])
    # What is masked has no weight; what all of them mask stays so.
    together: Any = np.ma.average(np.ma.masked_invalid(scaled), axis=0, weights=[weight for _, weight in given])
    mean: Scores = together.filled(np.nan).astype(np.float32)
    return mean


def standard(scores: Scores) -> npt.NDArray[np.float64]:
    """Scores of one list at mean 0 and standard deviation 1; zeros if all are the same. NaN stays."""
    scaled = scores.astype(np.float64)
    known = ~np.isnan(scaled)
    values = scaled[known]
    # Not the deviation: rounding may leave a little of it where there is none.
    if len(values) == 0 or values.min() == values.max():
        scaled[known] = 0
        return scaled
    centred = values - values.mean()
    scaled[known] = centred / centred.std()
    return scaled
