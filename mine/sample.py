"""Choose some of many negatives, the same ones for the same seed, whatever the order of the queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secondstage.files import fingerprint
from secondstage.lists import Candidate


def generator(seed: int, name: str) -> np.random.Generator:
    """A generator of its own for each name (e.g. a query id): what one query draws does not move what another does."""
    return np.random.default_rng(int(fingerprint(seed, name)[:16], 16))


def sample(negatives: Sequence[Candidate], count: int, rng: np.random.Generator) -> list[Candidate]:
    """Up to `count` negatives, uniformly over the ranks, in the order given."""
    if len(negatives) <= count:
        return list(negatives)
    return [negatives[i] for i in sorted(rng.choice(len(negatives), count, replace=False))]
