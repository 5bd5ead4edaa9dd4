"""What collects the candidates."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from .base import Count, Positive, Section, Share

Retriever = Literal["bm25", "dense", "sparse"]


class Bm25Config(Section):
    """BM25 (bm25s), defaults as in Anserini for BEIR."""

    k1: Positive = 0.9
    b: Share = 0.4
    language: str = "english"
    """Of the Snowball stemmer and the stop words; "none" for neither, as for Chinese, Japanese, Thai, Lao, Khmer and
    Burmese, which are indexed by pairs of characters in any language."""


class DenseConfig(Section):
    """A sentence-transformers bi-encoder over a FAISS index."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A hub id, a folder, or `package:<distribution>` for a model that a Python package carries."""
    max_length: Annotated[int, Field(ge=8)] | None = None
    """Tokens read of a document; none means the model's own limit."""
    query_prompt: str = ""
    document_prompt: str = ""
    batch_size: Count = 64
    """How many texts of usual length (32 tokens on a processor) share a batch; of longer ones fewer."""
    index: Literal["auto", "flat", "ivf", "hnsw", "pq"] = "auto"
    """auto: exact while that is fast and fits `memory_gib` (260,000 vectors of 384); then HNSW (520,000), IVF while it
    fits, and IVF with product quantisation, rescored with the vectors on disk. The recall reached is said and kept."""
    memory_gib: Positive = 4.0
    """What the index may take: auto chooses by it, and one that takes more, chosen or the smallest, is told."""


class SparseConfig(Section):
    """A learned sparse encoder (SPLADE and its like), a sentence-transformers `SparseEncoder`."""

    model: str = "naver/splade-cocondenser-ensembledistil"
    """A hub id or a folder."""
    max_length: Annotated[int, Field(ge=8)] | None = None
    """Tokens read of a document; none means the model's own limit."""
    query_prompt: str = ""
    """Empty means the model's own, if it has one; so for documents."""
    document_prompt: str = ""
    batch_size: Count = 32


class MilvusConfig(Section):
    """Milvus: embedded, in a folder, or a cluster."""

    uri: str | None = None
    """None: milvus-lite, `milvus.db` in the first stage's folder. A cluster: http://host:19530."""
    token_env: str | None = None
    """The environment variable that holds the token of a cluster."""
    collection: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,199}$")] = "secondstage"
    """How the name of the collection begins; what it is made from follows, so that two corpora never meet in one."""
    retrieve: Literal["bm25", "dense", "hybrid"] = "hybrid"
    """The encoder is that of `first_stage.dense`, the fusion that of `first_stage.fusion`."""


class FirstStageConfig(Section):
    """What collects the candidates: the stage that is deployed is the stage that is mined."""

    kind: Literal["bm25", "dense", "sparse", "hybrid", "milvus", "run"] = "hybrid"
    bm25: Bm25Config = Bm25Config()
    dense: DenseConfig = DenseConfig()
    sparse: SparseConfig = SparseConfig()
    milvus: MilvusConfig = MilvusConfig()
    run: tuple[str, ...] = ()
    """For the kind run: TREC files that another engine made (Lucene, OpenSearch, Vespa)."""
    retrievers: tuple[Retriever, ...] = ("bm25", "dense")
    """What a hybrid fuses."""
    fusion: Literal["minmax", "zscore", "rrf"] = "zscore"
    """How a hybrid fuses its lists."""
    weight: Share = 0.5
    """The dense share of a hybrid's score; the rest is BM25's."""
    weights: dict[Retriever, Positive] = Field(default_factory=dict)
    """The shares by retriever, instead of `weight`; needed for any but BM25 and dense."""
    depth: Count = 200
    """How many documents each retriever of a hybrid hands to the fusion."""

    @model_validator(mode="after")
    def _whole(self) -> FirstStageConfig:
        if self.kind == "run" and not self.run:
            raise ValueError("a first stage of the kind run needs first_stage.run: TREC files, e.g. [lucene.trec]")
        if len(set(self.retrievers)) < max(2, len(self.retrievers)):
            raise ValueError("a hybrid fuses at least two different retrievers, e.g. [bm25, dense]")
        if self.kind == "hybrid" and set(self.retrievers) != {"bm25", "dense"} and not self.weights:
            raise ValueError("weight is that of BM25 and dense alone: give first_stage.weights, one for each retriever")
        if self.weights and set(self.weights) != set(self.retrievers):
            raise ValueError(f"weights must name exactly the retrievers {', '.join(self.retrievers)}")
        return self

    @model_validator(mode="after")
    def _within_milvus(self) -> FirstStageConfig:
        if self.kind != "milvus":
            return self
        if self.fuses and set(self.retrievers) != {"bm25", "dense"}:
            raise ValueError("a hybrid on Milvus fuses bm25 and dense: leave first_stage.retrievers at [bm25, dense]")
        if self.uses("dense") and self.dense.index == "pq":
            raise ValueError("first_stage.dense.index: on Milvus give auto (its own choice), flat, hnsw or ivf")
        return self

    def uses(self, retriever: str) -> bool:
        """Whether this retriever is part of the first stage."""
        if self.kind == "milvus":
            return self.milvus.retrieve in (retriever, "hybrid") and retriever != "sparse"
        return self.kind == retriever or (self.kind == "hybrid" and retriever in self.retrievers)

    @property
    def names(self) -> tuple[str, ...]:
        """Of its retrievers, as candidates tell who found them; empty for the kind run, whose files name them."""
        return tuple(name for name in get_args(Retriever) if self.uses(name))

    @property
    def fuses(self) -> bool:
        """Whether several lists are fused, whose depth then matters."""
        return self.kind == "hybrid" or (self.kind == "milvus" and self.milvus.retrieve == "hybrid")

    @property
    def shares(self) -> dict[str, float]:
        """The share of each retriever of a hybrid, adding up to 1."""
        if not self.weights:
            return {"bm25": 1 - self.weight, "dense": self.weight}
        total = sum(self.weights.values())
        return {name: self.weights[name] / total for name in self.retrievers}
