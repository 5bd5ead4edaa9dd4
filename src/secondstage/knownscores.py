"""Scores by the digest of their pair, in sorted arrays: 20 bytes each, where a dictionary takes more than a hundred."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .run import Scores

# A digest of 16 bytes and its score, as in the file of a score cache.
RECORD = np.dtype([("digest", "S16"), ("score", "<f4")])
# So many new scores, or an eighth of all, are held beside the arrays before they are merged into them.
FRESH = 1 << 14

Records = npt.NDArray[np.void]


class KnownScores:
    """Scores that are looked up many at a time, and added to."""

    def __init__(self, parts: Iterable[Records] = ()) -> None:
        """Take records of `RECORD`; of several with one digest the last counts."""
        self._fresh: dict[bytes, float] = {}
        self._sort(np.concatenate([np.empty(0, RECORD), *parts]))

    def __len__(self) -> int:
        return len(self._digests) + len(self._fresh)

    def find(self, digests: Sequence[bytes]) -> Scores:
        """`[n]` scores of `[n]` digests; NaN for those that are not known."""
        asked = np.array(digests, "S16")
        found = np.full(len(asked), np.nan, np.float32)
        if len(self._digests):
            places = np.minimum(np.searchsorted(self._digests, asked), len(self._digests) - 1)
            here = self._digests[places] == asked
            found[here] = self._scores[places[here]]
        for i, digest in enumerate(digests) if self._fresh else ():
            if digest in self._fresh:
                found[i] = self._fresh[digest]
        return found

    def add(self, scores: Mapping[bytes, float]) -> None:
        """Add finite scores of digests that are not known yet."""
        self._fresh.update(scores)
        if len(self._fresh) > max(FRESH, len(self._digests) // 8):
            old = np.empty(len(self._digests), RECORD)
            old["digest"], old["score"] = self._digests, self._scores
            new = np.array(list(self._fresh.items()), RECORD)
            self._fresh = {}
            self._sort(np.concatenate([old, new]))

    def _sort(self, records: Any) -> None:
        order = np.argsort(records["digest"], kind="stable")
        digests = records["digest"][order]
        last = np.append(digests[1:] != digests[:-1], True)[: len(digests)]
        self._digests, self._scores = digests[last], records["score"][order][last]
