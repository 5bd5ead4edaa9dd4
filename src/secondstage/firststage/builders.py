"""Every kind of first stage: what builds it, and what opens it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from ..collection import Documents
from ..config import FirstStageConfig
from . import FirstStage
from .bm25 import Bm25
from .dense import Dense
from .given import Given
from .hybrid import Hybrid
from .milvus import Milvus
from .sparse import Sparse


class Material(NamedTuple):
    """What a first stage may be built from.

    Attributes:
        documents: the corpus.
        cache: where embeddings may be kept; none keeps none.
        queries: text by query id.
    """

    documents: Documents
    cache: Path | None
    queries: Mapping[str, str]


class Kind(NamedTuple):
    """How one kind is built, and how it is opened from the folder that it was saved in."""

    build: Callable[[FirstStageConfig, Material], FirstStage]
    load: Callable[[FirstStageConfig, Path], FirstStage]


def _hybrid(config: FirstStageConfig, open_one: Callable[[Kind], FirstStage]) -> Hybrid:
    retrievers: dict[str, FirstStage] = {name: open_one(KINDS[name]) for name in config.retrievers}
    return Hybrid(retrievers, config.fusion, config.shares, config.depth)


KINDS: dict[str, Kind] = {
    "bm25": Kind(
        lambda config, material: Bm25.build(config.bm25, material.documents),
        lambda config, folder: Bm25.load(config.bm25, folder),
    ),
    "dense": Kind(
        lambda config, material: Dense.build(config.dense, material.documents, cache=material.cache),
        lambda config, folder: Dense.load(config.dense, folder),
    ),
    "sparse": Kind(
        lambda config, material: Sparse.build(config.sparse, material.documents, cache=material.cache),
        lambda config, folder: Sparse.load(config.sparse, folder),
    ),
    "hybrid": Kind(
        lambda config, material: _hybrid(config, lambda kind: kind.build(config, material)),
        lambda config, folder: _hybrid(config, lambda kind: kind.load(config, folder)),
    ),
    "milvus": Kind(
        lambda config, material: Milvus.build(config, material.documents, cache=material.cache), Milvus.load
    ),
    "run": Kind(
        lambda config, material: Given.build(config.run, material.documents, material.queries),
        lambda _, folder: Given.load(folder),
    ),
}
