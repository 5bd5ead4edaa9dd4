"""Milvus: BM25, dense retrieval or both, embedded or in a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..collection import Documents
from ..config import FirstStageConfig
from ..encoder import Encoder
from ..errors import UserError
from ..files import read_json
from ..progress import say
from . import FirstStage, Hits
from .dense import load_encoder
from .hybrid import Hybrid
from .milvusindex import Index, collection_name
from .milvusstore import Store
from .words import check_words

# Queries of one request, and the most results that Milvus gives.
ASKED = 64
DEEPEST = 16_384
# By `first_stage.dense.index`: how much is looked at to find so many.
EFFORT: dict[str, Callable[[int], dict[str, int]]] = {
    "hnsw": lambda limit: {"ef": max(128, 2 * limit)},
    "ivf": lambda limit: {"nprobe": 64},
}


class Part:
    """One retriever of a collection: a vector field, by the name of the retriever."""

    def __init__(self, index: Index, name: str) -> None:
        self._index, self._name = index, name

    def save(self, folder: Path) -> None:
        """Write the whole collection."""
        self._index.save(folder)

    def parts(self) -> Mapping[str, FirstStage]:
        """Itself."""
        return {self._name: self}

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        """What Milvus finds; equal scores in the order of the corpus, where Milvus does not cut between them."""
        hits = [Hits(np.empty(0, np.int64), np.empty(0, np.float32), ())] * len(queries)
        index, limit = self._index, min(depth, self._index.size, DEEPEST)
        kind = index.config.dense.index
        effort = EFFORT[kind](limit) if self._name == "dense" and kind in EFFORT else {}
        wanted = self._wanted(queries)
        for start in range(0, len(wanted), ASKED):
            block = wanted[start : start + ASKED]
            answers = index.search(self._name, [query for _, query in block], limit, effort)
            for (i, _), answer in zip(block, answers, strict=True):
                hits[i] = self._hits(answer)
        return hits

    def _wanted(self, queries: Sequence[str]) -> list[tuple[int, Any]]:
        """What is looked for, with the place of its query; a query without a word finds nothing by BM25."""
        if not queries:
            return []
        if self._index.encoder is not None and self._name == "dense":
            prompt = self._index.config.dense.query_prompt
            return list(enumerate(self._index.encoder.encode(queries, prompt)))
        return [(i, words) for i, words in enumerate(self._index.words(queries)) if words]

    def _hits(self, answer: Sequence[Mapping[str, Any]]) -> Hits:
        rows = np.array([found["row"] for found in answer], np.int64)
        scores = np.array([found["distance"] for found in answer], np.float32)
        if self._name == "bm25":
            scores = np.abs(scores)  # milvus-lite gives BM25's scores, which are positive, as negative distances
        order = np.lexsort((rows, -scores))
        return Hits(rows[order], scores[order], (self._name,) * len(order))


class Milvus:
    """A collection in Milvus (Wang et al. 2021).

    BM25 is Milvus' own, over our words: text is tokenised, stemmed and freed of stop words here, as for the kind bm25,
    so that it means the same embedded and in a cluster. milvus-lite searches in pure Python, and counts words by
    segment: with several of them, beyond some hundred thousand documents, it is slow and its scores only near BM25's.

    Embeddings are made here, by the encoder of `first_stage.dense`. Of the fusions that Milvus has (RRFRanker, and
    WeightedRanker over scores squeezed by an arctangent) none is a z-score or min-max average, so both lists are
    fetched and fused here: a hybrid is fused in the same way with Milvus and without.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        config = index.config
        parts: dict[str, FirstStage] = {name: Part(index, name) for name in ("bm25", "dense") if config.uses(name)}
        self._stage: FirstStage = next(iter(parts.values()))
        if config.fuses:
            self._stage = Hybrid(parts, config.fusion, config.shares, config.depth)

    @classmethod
    def build(cls, config: FirstStageConfig, documents: Documents, *, cache: Path | None = None) -> Milvus:
        """Fill a collection, whose name tells what it is made from; one that a cluster holds already is taken as it is.

        Raises:
            UserError: pymilvus is not installed, Milvus cannot be reached or refuses, or no document holds a word.
        """
        store = Store(config.milvus)
        encoder = load_encoder(config.dense) if config.uses("dense") else None
        index = Index(store, collection_name(config, documents, encoder), len(documents), config, encoder)
        if there := index.held() == index.size:
            say(f"  Milvus at {store.place} holds collection {index.name} already")
        else:
            index.make(documents, cache)
        if config.milvus.uri and not there:
            say(f"  Milvus at {store.place}: made collection {index.name}")
        return cls(index)

    @classmethod
    def load(cls, config: FirstStageConfig, folder: Path) -> Milvus:
        """Open what `save` wrote.

        Raises:
            UserError: Milvus cannot be reached, or does not hold the whole collection any more; or the words of it are
                not those that queries are cut into now.
        """
        settings = read_json(folder / "milvus.json")
        if config.uses("bm25"):
            check_words(settings.get("words"), folder)
        store = Store(config.milvus, folder / "milvus.db")
        encoder = Encoder.load(str(folder / "encoder")) if config.uses("dense") else None
        index = Index(store, settings["collection"], settings["documents"], config, encoder)
        count = index.held()
        if count != index.size:
            found = "is not there" if count is None else f"holds {count} of {index.size} documents"
            raise UserError(
                f"Milvus at {store.place}: collection {index.name} {found}: delete the folder first_stage of the run "
                "and start the run again, which makes it, and the bundle, anew"
            )
        return cls(index)

    def save(self, folder: Path) -> None:
        """Write the encoder, and the data of an embedded Milvus, below `folder`; a cluster keeps its own."""
        self._index.save(folder)

    def parts(self) -> Mapping[str, FirstStage]:
        """The retrievers by name."""
        return self._stage.parts()

    def with_parts(self, parts: Mapping[str, FirstStage]) -> FirstStage:
        """The same fusion of other retrievers, by the same names; of a single retriever, the other one."""
        return self._stage.with_parts(parts) if isinstance(self._stage, Hybrid) else parts[next(iter(self.parts()))]

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        """As BM25, dense retrieval or their fusion finds them; at most 16,384 documents of each."""
        return self._stage.search(queries, depth)
