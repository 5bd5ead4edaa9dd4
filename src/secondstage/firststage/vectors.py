"""Nearest neighbours of unit vectors, with FAISS: exact while that is fast, then within a budget of memory.

Everything is seeded, and graphs are built by one thread: the same vectors give the same index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import log2, sqrt
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..config import DenseConfig
from ..embeddings import Embeddings
from ..encoder import Vectors
from ..files import read_json, write_json
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
# What a tuned index must find, of so many neighbours of so many documents.
TARGET, NEIGHBOURS, PROBES = 0.95, 100, 200
SEED = 13
QUERIES_PER_BLOCK = 1024


class Effort(NamedTuple):
    """How hard an approximate index searches: lists or nodes visited, and candidates per place that are rescored."""

    visits: int
    rescored: int = 1


class VectorIndex:
    """An index and how it is searched.

    Attributes:
        kind: flat (exact), hnsw (a graph), ivf (lists around centroids), pq (lists of compressed vectors, the best of
            which are rescored with the vectors themselves, in half precision and memory-mapped).
        report: kind, effort, size and, for an approximate index, its recall against exact search.
    """

    def __init__(self, index: Any, report: dict[str, Any], exact: Callable[[Rows], Vectors]) -> None:
        self._index = index
        self._exact = exact
        self.report = report
        self.kind: Kind = report["kind"]

    @classmethod
    def build(cls, config: DenseConfig, embeddings: Embeddings) -> VectorIndex:
        """Choose, train, fill and tune an index; what was chosen, and its recall, is said on standard error."""
        count, dimension = embeddings.count, embeddings.dimension
        kind = choose(config, count, dimension)
        index = _empty(kind, config, embeddings)
        with _threads(1 if kind == "hnsw" else None):
            for shard in embeddings:
                index.add(np.ascontiguousarray(shard))
        size = round(size_gib(kind, count, dimension, _code_bytes(config, count, dimension)), 3)
        report: dict[str, Any] = {"kind": kind, "vectors": count, "gib": size, "visits": 1, "rescored": 1}
        built = cls(index, report, partial(_half, embeddings))
        if kind != "flat":
            _tune(built, embeddings)
            found = f"recall@{NEIGHBOURS} against exact search {report['recall']:.3f}"
            say(f"dense index: {kind}, {count} vectors, {size:.2f} GiB, {found} ({report['visits']} visits a query)")
            if report["recall"] < TARGET:
                say(f"dense index: below {TARGET}; first_stage.dense.index: flat is exact")
        return built

    @classmethod
    def load(cls, folder: Path) -> VectorIndex:
        """Open what `save` wrote."""
        faiss = _faiss()
        report = read_json(folder / "dense.json")
        index = faiss.read_index(str(folder / "dense.faiss"))
        if report["kind"] != "pq":
            return cls(index, report, _nothing)
        vectors = np.load(folder / "dense.vectors.npy", mmap_mode="r")
        return cls(index, report, lambda rows: vectors[rows].astype(np.float32))

    def save(self, folder: Path) -> None:
        """Write the index and its report; beside a compressed one the vectors, in half precision."""
        faiss = _faiss()
        faiss.write_index(self._index, str(folder / "dense.faiss"))
        write_json(folder / "dense.json", self.report)
        if self.kind == "pq":
            shape = (self._index.ntotal, self._index.d)
            path = folder / "dense.vectors.npy"
            file: Any = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
            for start in range(0, len(file), QUERIES_PER_BLOCK):
                rows = np.arange(start, min(start + QUERIES_PER_BLOCK, len(file)))
                file[rows] = self._exact(rows)
            file.flush()

    def search(self, queries: Vectors, depth: int) -> list[tuple[Rows, npt.NDArray[np.float32]]]:
        """Rows and cosines of up to `depth` neighbours of each query, best first, equals in the order of the rows."""
        effort = Effort(self.report["visits"], self.report["rescored"])
        found = []
        for start in range(0, len(queries), QUERIES_PER_BLOCK):
            found += self._search(queries[start : start + QUERIES_PER_BLOCK], depth, effort)
        return found

    def _search(self, queries: Vectors, depth: int, effort: Effort) -> list[tuple[Rows, npt.NDArray[np.float32]]]:
        depth = min(depth, self._index.ntotal)
        wide = min(depth * effort.rescored, self._index.ntotal)
        scores, rows = self._index.search(queries, wide, params=self._parameters(effort.visits, wide))
        found = []
        for i in range(len(queries)):
            # FAISS fills up with -1 where it found too few, and leaves the order of equal scores open.
            kept = rows[i] >= 0
            here, near = rows[i][kept], scores[i][kept]
            if self.kind == "pq":
                near = self._exact(here) @ queries[i]
            order = np.lexsort((here, -near))[:depth]
            found.append((here[order], near[order]))
        return found

    def _parameters(self, visits: int, depth: int) -> Any:
        """Those of one search: enough is visited for `depth` results, whatever the tuning found to be enough."""
        faiss = _faiss()
        if self.kind == "flat":
            return None
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=max(visits, depth))
        lists = self._index.nlist
        enough = -(-2 * depth * lists // max(1, self._index.ntotal))
        probes = min(lists, max(visits, enough))
        return (faiss.IVFPQSearchParameters if self.kind == "pq" else faiss.SearchParametersIVF)(nprobe=probes)


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
    centroids = _lists(count) * dimension * 4
    size = {
        "flat": count * dimension * 4,
        "hnsw": count * (dimension * 4 + 2 * LINKS * 4 + 8),
        "ivf": count * (dimension * 4 + 8) + centroids,
        "pq": count * (code + 8) + centroids,
    }[kind]
    return size / GIB


def _lists(count: int) -> int:
    return max(1, min(int(4 * sqrt(count)), count // PER_CENTROID))


def _code_bytes(config: DenseConfig, count: int, dimension: int) -> int:
    """Bytes of a compressed vector: one for 8 numbers or more, as many as the budget allows."""
    divisors = [m for m in range(max(1, dimension // 8), 0, -1) if dimension % m == 0]
    return next((m for m in divisors if size_gib("pq", count, dimension, m) <= config.memory_gib), 1)


def _empty(kind: Kind, config: DenseConfig, embeddings: Embeddings) -> Any:
    """An index without vectors, trained where it has to be."""
    faiss = _faiss()
    dimension, count, metric = embeddings.dimension, embeddings.count, faiss.METRIC_INNER_PRODUCT
    if kind == "flat":
        return faiss.IndexFlatIP(dimension)
    if kind == "hnsw":
        graph = faiss.IndexHNSWFlat(dimension, LINKS, metric)
        graph.hnsw.efConstruction = CONSTRUCTION
        return graph
    lists, centroids = _lists(count), faiss.IndexFlatIP(dimension)
    if kind == "ivf":
        index = faiss.IndexIVFFlat(centroids, dimension, lists, metric)
    else:
        bits = min(8, int(log2(count / PER_CENTROID)))
        index = faiss.IndexIVFPQ(centroids, dimension, lists, _code_bytes(config, count, dimension), bits, metric)
        index.pq.cp.seed = SEED
        index.pq.cp.min_points_per_centroid = 1
    index.cp.seed = SEED
    index.cp.min_points_per_centroid = 1
    index.train(embeddings.take(_sample(count, max(PER_CENTROID * lists, PER_CENTROID * 256))))
    return index


def _tune(built: VectorIndex, embeddings: Embeddings) -> None:
    """Raise the effort until the target is reached, or all efforts are made; keep what it took in the report."""
    rows = _sample(embeddings.count, PROBES)
    queries = embeddings.take(rows)
    depth = min(NEIGHBOURS, embeddings.count - 1)
    truth = [
        _without(row, found)[:depth] for row, found in zip(rows, exact(queries, embeddings, depth + 1), strict=True)
    ]
    for effort in _efforts(built):
        found = [
            _without(row, near) for row, (near, _) in zip(rows, built._search(queries, depth + 1, effort), strict=True)
        ]
        shares = [len(np.intersect1d(a, b[:depth])) / max(1, len(a)) for a, b in zip(truth, found, strict=True)]
        built.report.update(
            effort._asdict(), recall=round(float(np.mean(shares)), 4), neighbours=depth, probes=len(rows)
        )
        if built.report["recall"] >= TARGET:
            return


def exact(queries: Vectors, embeddings: Embeddings, depth: int) -> list[Rows]:
    """The rows of the `depth` nearest of each query, by comparison with every vector, a shard at a time."""
    faiss = _faiss()
    scores = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    for number, shard in enumerate(embeddings):
        near, here = faiss.knn(queries, np.ascontiguousarray(shard), min(depth, len(shard)), faiss.METRIC_INNER_PRODUCT)
        scores = np.hstack([scores, near])
        rows = np.hstack([rows, here + embeddings.starts[number]])
        order = np.lexsort((rows, -scores), axis=1)[:, :depth]
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
    return list(rows)


def _efforts(built: VectorIndex) -> Iterator[Effort]:
    """What is tried, the least first."""
    if built.kind == "hnsw":
        yield from (Effort(visits) for visits in (100, 200, 400, 800, 1600))
        return
    lists = built._index.nlist
    limit = min(lists, max(64, lists // 4))
    visits = [limit] if limit < 8 else [2**power for power in range(3, int(log2(limit)) + 1)]
    yield from (Effort(each, rescored) for rescored in ((4, 16) if built.kind == "pq" else (1,)) for each in visits)


def _sample(count: int, size: int) -> Rows:
    """Row numbers, in order."""
    chosen = np.random.default_rng(SEED).choice(count, min(count, size), replace=False)
    return np.sort(chosen).astype(np.int64)


def _without(row: np.int64, rows: Rows) -> Rows:
    others: Rows = rows[rows != row]
    return others


def _half(embeddings: Embeddings, rows: Rows) -> Vectors:
    """The vectors as `save` keeps them."""
    return embeddings.take(rows).astype(np.float16).astype(np.float32)


def _nothing(rows: Rows) -> Vectors:
    raise ValueError("only a compressed index is rescored")


def _faiss() -> Any:
    """FAISS, whose types do not know all its names."""
    import faiss

    return faiss


class _threads:  # noqa: N801
    """Limits FAISS to some threads within a block; none leaves it as it is."""

    def __init__(self, count: int | None) -> None:
        self._count = count

    def __enter__(self) -> None:
        faiss = _faiss()
        self._before = faiss.omp_get_max_threads()
        if self._count:
            faiss.omp_set_num_threads(self._count)

    def __exit__(self, *_: object) -> None:
        faiss = _faiss()
        faiss.omp_set_num_threads(self._before)
