"""Nearest neighbours of unit vectors, with FAISS: exact while that is fast, then within a budget of memory.

Everything is seeded, and graphs are built by one thread: the same vectors give the same index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import log2
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..config import DenseConfig
from ..embeddings import Embeddings
from ..encoder import Vectors
from ..files import read_json, write_json
from ..progress import say
from .vectorkinds import SEED, Kind, Rows, choose, code_bytes, empty_index, faiss_library, overrun, sample, size_gib

# What a tuned index must find, of so many neighbours of so many probes.
TARGET, NEIGHBOURS, PROBES = 0.95, 100, 200
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
        index = empty_index(kind, config, embeddings)
        with _threads(1 if kind == "hnsw" else None):
            for shard in embeddings:
                index.add(np.ascontiguousarray(shard))
        size = size_gib(kind, count, dimension, code_bytes(config, count, dimension))
        if told := overrun(config, kind, size):
            say(told)
        report: dict[str, Any] = {"kind": kind, "vectors": count, "gib": round(size, 3), "visits": 1, "rescored": 1}
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
        faiss = faiss_library()
        report = read_json(folder / "dense.json")
        index = faiss.read_index(str(folder / "dense.faiss"))
        if report["kind"] != "pq":
            return cls(index, report, _nothing)
        vectors = np.load(folder / "dense.vectors.npy", mmap_mode="r")
        return cls(index, report, lambda rows: vectors[rows].astype(np.float32))

    def save(self, folder: Path) -> None:
        """Write the index and its report; beside a compressed one the vectors, in half precision."""
        faiss = faiss_library()
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

    def vectors(self) -> Vectors | None:
        """`[documents, dimension]` as they were put in; none of a compressed index, which has lost them."""
        if self.kind == "pq":
            return None
        if self.kind == "ivf":
            self._index.make_direct_map()
        found: Vectors = self._index.reconstruct_n(0, self._index.ntotal)
        return found

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
        faiss = faiss_library()
        if self.kind == "flat":
            return None
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=max(visits, depth))
        lists = self._index.nlist
        enough = -(-2 * depth * lists // max(1, self._index.ntotal))
        probes = min(lists, max(visits, enough))
        return (faiss.IVFPQSearchParameters if self.kind == "pq" else faiss.SearchParametersIVF)(nprobe=probes)


def _tune(built: VectorIndex, embeddings: Embeddings) -> None:
    """Raise the effort until the target is reached, or all efforts are made; keep what it took in the report.

    The probes are midpoints of two documents: like queries they lie off the corpus, their neighbours in several lists.
    Documents themselves would be too easy where many are alike.
    """
    probes = _midpoints(embeddings)
    depth = min(NEIGHBOURS, embeddings.count)
    truth = exact(probes, embeddings, depth)
    for effort in _efforts(built):
        found = built._search(probes, depth, effort)
        shares = [len(np.intersect1d(a, b)) / len(a) for a, (b, _) in zip(truth, found, strict=True)]
        recall = round(float(np.mean(shares)), 4)
        built.report.update(effort._asdict(), recall=recall, neighbours=depth, probes=len(probes))
        if recall >= TARGET:
            return


def _midpoints(embeddings: Embeddings) -> Vectors:
    """Unit vectors between two documents each."""
    rows = sample(embeddings.count, 2 * PROBES)
    pairs = np.resize(np.random.default_rng(SEED).permutation(rows), (2, -(-len(rows) // 2)))
    sums = embeddings.take(pairs[0]) + embeddings.take(pairs[1])
    middle: Vectors = sums / np.linalg.norm(sums, axis=1, keepdims=True).clip(1e-12)
    return middle


def exact(queries: Vectors, embeddings: Embeddings, depth: int) -> list[Rows]:
    """The rows of the `depth` nearest of each query, by comparison with every vector, a shard at a time."""
    faiss = faiss_library()
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
    limit = min(lists, max(64, lists // 2))
    visits = [limit] if limit < 8 else [2**power for power in range(3, int(log2(limit)) + 1)]
    yield from (Effort(each, rescored) for rescored in ((4, 16) if built.kind == "pq" else (1,)) for each in visits)


def _half(embeddings: Embeddings, rows: Rows) -> Vectors:
    """The vectors as `save` keeps them."""
    return embeddings.take(rows).astype(np.float16).astype(np.float32)


def _nothing(rows: Rows) -> Vectors:
    raise ValueError("only a compressed index is rescored")


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Limits FAISS to some threads within a block; none leaves it as it is."""
    faiss = faiss_library()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count or before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
