"""First stages: fast retrieval of the candidates that the reranker orders.

The stage that is built here is the one that is mined, evaluated and deployed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..collection import Documents
from ..config import FirstStageConfig
from ..files import read_json, write_json
from ..run import Ranking, Run, strictly_decreasing


class Hits(NamedTuple):
    """What a retriever found for one query, best first.

    Attributes:
        rows: `[n]` row numbers of documents.
        scores: `[n]` scores, not increasing.
        retrievers: `[n]` who found each document.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    retrievers: tuple[str, ...]


class FirstStage(Protocol):
    """The contract of every first stage: search by text, and live in a folder."""

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        """Up to `depth` documents for each query; fewer where fewer match."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything that `load` needs into an existing folder."""
        ...

    def parts(self) -> Mapping[str, FirstStage]:
        """The retrievers inside, by name; a single retriever is its only part."""
        ...


def build(config: FirstStageConfig, documents: Documents) -> FirstStage:
    """Index the documents."""
    from .bm25 import Bm25
    from .dense import Dense
    from .hybrid import Hybrid

    if config.kind == "bm25":
        return Bm25.build(config.bm25, documents)
    if config.kind == "dense":
        return Dense.build(config.dense, documents)
    bm25, dense = Bm25.build(config.bm25, documents), Dense.build(config.dense, documents)
    return Hybrid({"bm25": bm25, "dense": dense}, config.fusion, config.weight, config.depth)


def save(first_stage: FirstStage, config: FirstStageConfig, folder: Path) -> None:
    """Write a first stage and its configuration into an existing folder."""
    first_stage.save(folder)
    write_json(folder / "first_stage.json", config.model_dump(mode="json"))


def load(folder: Path) -> FirstStage:
    """Open what `save` wrote; nothing outside the folder is needed."""
    from .bm25 import Bm25
    from .dense import Dense
    from .hybrid import Hybrid

    config = FirstStageConfig.from_json(read_json(folder / "first_stage.json"))
    if config.kind == "bm25":
        return Bm25.load(config.bm25, folder)
    if config.kind == "dense":
        return Dense.load(config.dense, folder)
    return Hybrid.load(folder, config)


def search_run(
    first_stage: FirstStage, doc_ids: Sequence[str], queries: Mapping[str, str], depth: int, name: str = "first_stage"
) -> Run:
    """Search many queries (text by query id) and name the documents found by their ids."""
    found = first_stage.search(list(queries.values()), depth)
    return Run(name, {query_id: _ranking(hits, doc_ids) for query_id, hits in zip(queries, found, strict=True)})


def _ranking(hits: Hits, doc_ids: Sequence[str]) -> Ranking:
    rows: list[int] = hits.rows.tolist()
    return Ranking(tuple(doc_ids[row] for row in rows), strictly_decreasing(hits.scores), hits.retrievers)
