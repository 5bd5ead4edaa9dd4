"""Drift: whether the scores of production are still distributed as those of dev were when the bundle was made.

The top score of a search is compared, one number a query: searches are independent of each other, the candidates of one
are not, and a test on all of them would take their likeness for evidence. The population stability index is given for
both, to be looked at; the alarm is that of the two-sample Kolmogorov-Smirnov test on the top scores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..release import Release

Floats = npt.NDArray[np.float64]
BINS = 10
# An alarm is raised below the first p-value and cleared above the second. The window moves by a quarter between two
# tests. Where nothing has drifted, about 1 of 100 streams of 10,000 searches raises an alarm, with 300 dev queries and
# a window of 300; fewer with fewer dev queries or a longer window (tests/test_drift.py simulates it).
RAISED, CLEARED = 1e-4, 1e-2
TESTS_PER_WINDOW = 4


class Drift(NamedTuple):
    """What a window of searches looks like beside the release.

    Attributes:
        psi: population stability index of the top scores; 0.1 is usually called some change, 0.25 much.
        candidates_psi: of the scores of all candidates.
        distance: the largest difference of the two distribution functions of the top scores.
        p_value: how likely one as large is by chance.
    """

    psi: float
    candidates_psi: float
    distance: float
    p_value: float


def ks_distance(left: Sequence[float] | Floats, right: Sequence[float] | Floats) -> float:
    """The largest difference of two empirical distribution functions; of ascending values, none of them empty."""
    both = np.concatenate([left, right])
    shares = [np.searchsorted(each, both, side="right") / len(each) for each in (left, right)]
    return float(np.abs(shares[0] - shares[1]).max())


def ks_p_value(distance: float, left: int, right: int) -> float:
    """The asymptotic p-value of `ks_distance` of samples of these sizes, with Stephens' correction for small ones.

    Stephens 1970; as in Numerical Recipes, 14.3. Ties, which continuous scores hardly have, make it too large.
    """
    from scipy.special import kolmogorov

    root = np.sqrt(left * right / (left + right))
    return float(kolmogorov((root + 0.12 + 0.11 / root) * distance))


def stability_index(reference: Sequence[float] | Floats, values: Sequence[float] | Floats, bins: int = BINS) -> float:
    """Population stability index: Σ (p − q) ln(p / q) over bins that cut the reference into equal parts.

    Each bin gets half a value more in both samples, so that an empty one is no infinity. Samples of n and m from the
    same distribution have an index of about (bins − 1)(1/n + 1/m) on average.

    Args:
        reference: ascending, not empty.
        values: not empty.
        bins: fewer where the reference has ties.
    """
    edges = np.unique(np.quantile(reference, np.arange(1, bins) / bins))
    p, q = (
        (np.bincount(np.searchsorted(edges, each), minlength=len(edges) + 1) + 0.5) / (len(each) + (len(edges) + 1) / 2)
        for each in (values, reference)
    )
    return float(((p - q) * np.log(p / q)).sum())


class DriftWatch:
    """A sliding window over the searches of production. Not for several threads at once.

    Attributes:
        window: how many searches are looked at.
        alarm: whether it is raised.
        drift: of the last test; none before the first.
    """

    def __init__(self, release: Release, window: int) -> None:
        """Compare with `release`, `window` searches at a time."""
        self.release, self.window, self.alarm = release, window, False
        self.drift: Drift | None = None
        self._scores: deque[Floats] = deque(maxlen=window)
        self._stride = max(1, window // TESTS_PER_WINDOW)
        self._left = window

    def takes(self, scores: Sequence[float]) -> bool:
        """Whether the logits of a search can be compared: it was reranked to the depth of the release.

        Of more candidates the best is better, and of fewer worse.
        """
        return len(scores) == self.release.depth

    def add(self, scores: Sequence[float]) -> Drift | None:
        """Take in the logits of one search; gives a new result whenever a part of the window is new.

        What it does not take is left out.
        """
        if not self.takes(scores):
            return None
        self._scores.append(np.asarray(scores, np.float64))
        self._left -= 1
        if self._left > 0:
            return None
        self._left = self._stride
        self.drift = compare(self.release, list(self._scores))
        p_value = self.drift.p_value
        self.alarm = p_value <= CLEARED if self.alarm else p_value < RAISED
        return self.drift


def compare(release: Release, window: Sequence[Floats]) -> Drift:
    """The scores of some searches beside those of the release."""
    top = np.sort([scores.max() for scores in window])
    distance = ks_distance(release.top, top)
    return Drift(
        psi=stability_index(release.top, top),
        candidates_psi=stability_index(release.candidates, np.concatenate(window)),
        distance=distance,
        p_value=ks_p_value(distance, min(release.queries, len(release.top)), len(top)),
    )
