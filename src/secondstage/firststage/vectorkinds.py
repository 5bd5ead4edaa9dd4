"""Kinds of FAISS index: which one suits so many vectors within a budget, and an empty one of it."""

from __future__ import annotations

from math import log2, sqrt
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..config import DenseConfig
from ..embeddings import Embeddings
from ..progress import say

Kind = Literal["flat", "hnsw", "ivf", "pq"]
Rows = npt.NDArray[np.int64]

GIB = 1 << 30
# Numbers (vectors x dimension) up to which each is chosen. Exact search of 100 million takes some 10 ms a query; a
# graph of 200 million is built in minutes by the one thread that makes it the same each time.
FLAT_NUMBERS, GRAPH_NUMBERS = 100_000_000, 200_000_000
# Below this, an index that must be trained is trained on too little.
TRAINABLE = 1000
# FAISS wants so many training vectors for a centroid, at least.
PER_CENTROID = 39
# Links of a node; vectors looked at when it is placed (Malkov and Yashunin 2018).
LINKS, CONSTRUCTION = 32, 80
SEED = 13


def choose(config: DenseConfig, count: int, dimension: int) -> Kind:
    """The kind for so many vectors: that of the config, or by size and budget."""
    numbers = count * dimension
    if config.index == "auto":
        if numbers <= FLAT_NUMBERS and size_gib("flat", count, dimension) <= config.memory_gib:
            return "flat"
        if numbers <= GRAPH_NUMBERS and size_gib("hnsw", count, dimension) <= config.memory_gib:
            return "hnsw"
        wanted: Kind = "ivf" if size_gib("ivf", count, dimension) <= config.memory_gib else "pq"
    else:
        wanted = config.index
    if wanted in ("ivf", "pq") and count < TRAINABLE:
        say(f"dense index: {count} vectors are too few to train {wanted} ({TRAINABLE}): exact search instead")
        return "flat"
    return wanted


def size_gib(kind: Kind, count: int, dimension: int, code: int = 0) -> float:
    """What an index holds in memory; `code` is the bytes of a compressed vector."""
    centroids = lists_for(count) * dimension * 4
    size = {
        "flat": count * dimension * 4,
        "hnsw": count * (dimension * 4 + 2 * LINKS * 4 + 8),
        "ivf": count * (dimension * 4 + 8) + centroids,
        "pq": count * (code + 8) + centroids,
    }[kind]
    return size / GIB


def overrun(config: DenseConfig, kind: Kind, gib: float) -> str | None:
    """What is said of an index that takes more than the budget; none of one that does not."""
    if gib <= config.memory_gib:
        return None
    smaller = "index: auto may choose a smaller kind" if config.index not in ("auto", "pq") else "none is smaller"
    budget = f"first_stage.dense.memory_gib={config.memory_gib:g}"
    return f"dense index: {kind} takes {gib:.3f} GiB, more than {budget}; {smaller}"


def lists_for(count: int) -> int:
    """How many lists an inverted file has."""
    return max(1, min(int(4 * sqrt(count)), count // PER_CENTROID))


def code_bytes(config: DenseConfig, count: int, dimension: int) -> int:
    """Bytes of a compressed vector: one for 8 numbers or more, as many as the budget allows."""
    divisors = [m for m in range(max(1, dimension // 8), 0, -1) if dimension % m == 0]
    return next((m for m in divisors if size_gib("pq", count, dimension, m) <= config.memory_gib), 1)


def empty_index(kind: Kind, config: DenseConfig, embeddings: Embeddings) -> Any:
    """An index without vectors, trained where it has to be."""
    faiss = faiss_library()
    dimension, count, metric = embeddings.dimension, embeddings.count, faiss.METRIC_INNER_PRODUCT
    if kind == "flat":
        return faiss.IndexFlatIP(dimension)
    if kind == "hnsw":
        graph = faiss.IndexHNSWFlat(dimension, LINKS, metric)
        graph.hnsw.efConstruction = CONSTRUCTION
        return graph
    lists, centroids = lists_for(count), faiss.IndexFlatIP(dimension)
    if kind == "ivf":
        index = faiss.IndexIVFFlat(centroids, dimension, lists, metric)
    else:
        bits = min(8, int(log2(count / PER_CENTROID)))
        index = faiss.IndexIVFPQ(centroids, dimension, lists, code_bytes(config, count, dimension), bits, metric)
        index.pq.cp.seed = SEED
        index.pq.cp.min_points_per_centroid = 1
    index.cp.seed = SEED
    index.cp.min_points_per_centroid = 1
    index.train(embeddings.take(sample(count, max(PER_CENTROID * lists, PER_CENTROID * 256))))
    return index


def sample(count: int, size: int) -> Rows:
    """Row numbers, in order."""
    chosen = np.random.default_rng(SEED).choice(count, min(count, size), replace=False)
    return np.sort(chosen).astype(np.int64)


def faiss_library() -> Any:
    """FAISS, whose types do not know all its names."""
    import faiss

    return faiss
