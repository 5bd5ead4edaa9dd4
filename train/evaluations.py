"""How often dev is reranked in the middle of a training."""

from __future__ import annotations

from math import inf

# A training pair is computed forwards and, at twice the cost, backwards; a dev pair forwards only.
PASSES = 3
# The share of the training's cost that evaluations may take.
SHARE = 0.1


def affordable(training_pairs: float, dev_pairs: int) -> float:
    """How many evaluations, of so many pairs each, cost a tenth of a training over so many pairs."""
    return SHARE * PASSES * training_pairs / dev_pairs if dev_pairs else inf
