"""A hybrid: several retrievers, their scores brought to one scale and averaged."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from . import FirstStage, Hits

Fusion = Literal["minmax", "zscore", "rrf"]
RRF_K = 60


class Hybrid:
    """Any retrievers, fused: BM25, dense, learned sparse."""

    def __init__(
        self, retrievers: Mapping[str, FirstStage], fusion: Fusion, shares: Mapping[str, float], depth: int
    ) -> None:
        """Fuse retrievers.

        Args:
            retrievers: by name.
            fusion: how their scores are brought to one scale.
            shares: the weight of each in the fused score, by name.
            depth: how many documents each hands in, or more if more are asked for.
        """
        self._retrievers = dict(retrievers)
        self._fusion: Fusion = fusion
        self._shares = dict(shares)
        self._depth = depth

    @property
    def depth(self) -> int:
        """How many documents each retriever hands in: the scores of a deeper list are on another scale."""
        return self._depth

    def save(self, folder: Path) -> None:
        """Write every retriever below `folder`."""
        for retriever in self._retrievers.values():
            retriever.save(folder)

    def parts(self) -> Mapping[str, FirstStage]:
        """The retrievers by name."""
        return self._retrievers

    def with_parts(self, parts: Mapping[str, FirstStage]) -> Hybrid:
        """The same fusion of other retrievers, by the same names."""
        other = copy.copy(self)
        other._retrievers = dict(parts)
        return other

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        """The best of the fused lists; each retriever hands in `depth` documents of the config, or more if asked."""
        each = max(depth, self._depth)
        found = {name: retriever.search(queries, each) for name, retriever in self._retrievers.items()}
        return [
            fuse({name: hits[i] for name, hits in found.items()}, self._shares, self._fusion, depth)
            for i in range(len(queries))
        ]


def fuse(hits: Mapping[str, Hits], weights: Mapping[str, float], fusion: Fusion, depth: int) -> Hits:
    """Fuse the lists of one query.

    A document that a retriever did not return gets the score of the lowest it did return (min-max and z-score), or
    none (reciprocal rank fusion, Cormack et al. 2009, k = 60). A list in which all scores are equal says nothing about
    its own order, but its documents still count as found.

    Args:
        hits: the list of each retriever.
        weights: the share of each retriever.
        fusion: how scores are brought to one scale.
        depth: how many documents to return.
    """
    rows = np.unique(np.concatenate([found.rows for found in hits.values()]))
    scores = np.zeros(len(rows), np.float64)
    names = np.full(len(rows), "", dtype=object)
    for name, found in hits.items():
        if not len(found.rows):
            continue
        places = np.searchsorted(rows, found.rows)
        scaled, missing = scale(found.scores, fusion)
        values = np.full(len(rows), missing)
        values[places] = scaled
        scores += weights[name] * values
        names[places] = [f"{before}+{name}" if before else name for before in names[places]]
    order = np.lexsort((rows, -scores))[:depth]
    return Hits(rows[order], scores[order].astype(np.float32), tuple(names[order]))


def scale(scores: npt.NDArray[np.float32], fusion: Fusion) -> tuple[npt.NDArray[np.float64], float]:
    """Bring one list of scores (best first) to a common scale; also the score of a document that is not in it."""
    values = scores.astype(np.float64)
    if fusion == "rrf":
        return 1.0 / (RRF_K + 1 + np.arange(len(values))), 0.0
    spread = values.std() if fusion == "zscore" else values.max() - values.min()
    if spread <= 0:
        return np.ones(len(values)), 0.0
    origin = values.mean() if fusion == "zscore" else values.min()
    scaled = (values - origin) / spread
    return scaled, float(scaled.min())
