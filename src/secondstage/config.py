"""The configuration of one run: its sections, their keys, types, bounds and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
BUDGETS = ("minutes", "steps", "epochs", "replay")
# The systems of every evaluation.
SYSTEMS = (
    "first_stage",
    "bm25",
    "dense",
    "identity",
    "random",
    "untuned",
    "remote",
    "reranked",
    "pipeline",
    "oracle",
)


class Section(BaseModel):
    """A part of the configuration: unknown keys and wrong types are faults, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False)


class CollectionConfig(Section):
    """What to search, for whom: documents, queries and qrels."""

    source: str | None = None
    """A BEIR folder, `pydocs` (the built-in collection), or `hf:<dataset id>`."""
    documents: str | None = None
    """Instead of `source`: a file of documents (BEIR JSON lines or TREC SGML), plain or gzipped."""
    queries: str | None = None
    """Instead of `source`: a file of queries (BEIR JSON lines, TREC topics, or id-tab-text)."""
    qrels: dict[str, str] = {}
    """Instead of `source`: a file of qrels (TREC or BEIR TSV) for each split."""
    dev_share: Share = 0.1
    """Cut from train where the source has no dev split."""
    drop_invalid: bool = False
    """Leave faulty records out, and count them, instead of refusing the collection."""

    @model_validator(mode="after")
    def _one_origin(self) -> CollectionConfig:
        if fault := origin_fault(self.model_dump()):
            raise ValueError(fault)
        return self


def origin_fault(collection: Mapping[str, object]) -> str:
    """What is wrong with where a collection is to be read from; empty if nothing is."""
    source, documents, queries, qrels = (collection.get(key) for key in ("source", "documents", "queries", "qrels"))
    if source and not (documents or queries or qrels):
        return ""
    if not source and documents and queries:
        return ""
    return "give either source, or documents, queries and qrels"


class Bm25Config(Section):
    """BM25 (bm25s), defaults as in Anserini for BEIR."""

    k1: Positive = 0.9
    b: Share = 0.4
    language: str = "english"
    """Of the Snowball stemmer and the stop words; "none" for neither."""


class DenseConfig(Section):
    """A sentence-transformers bi-encoder over a FAISS index."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A hub id, a folder, or `package:<distribution>` for a model that a Python package carries."""
    max_length: Annotated[int, Field(ge=8)] | None = None
    """Tokens read of a document; none means the model's own limit."""
    query_prompt: str = ""
    document_prompt: str = ""
    batch_size: Count = 64


class FirstStageConfig(Section):
    """What collects the candidates: the stage that is deployed is the stage that is mined."""

    kind: Literal["bm25", "dense", "hybrid"] = "hybrid"
    bm25: Bm25Config = Bm25Config()
    dense: DenseConfig = DenseConfig()
    fusion: Literal["minmax", "zscore", "rrf"] = "zscore"
    """How a hybrid fuses its two lists."""
    weight: Share = 0.5
    """The dense share of a hybrid's score; the rest is BM25's."""
    depth: Count = 200
    """How many documents each retriever of a hybrid hands to the fusion."""


class MineConfig(Section):
    """How training lists are made from the first stage's candidates."""

    depth: Count = 50
    """Candidates per training query."""
    negatives: Count = 16
    """Negatives kept per training query."""
    max_share: Positive = 0.95
    """A negative's score stays below this share of its positive's."""
    max_queries: Count | None = None
    """Use only so many training queries, chosen by the seed."""
    dev_queries: Count = 300
    """Dev queries whose candidate lists are kept, for the choice of checkpoint and fusion weight."""


def budget_fault(train: Mapping[str, object]) -> str:
    """What is wrong with the budget of a training; empty if nothing is."""
    given = [name for name in BUDGETS if train.get(name) is not None]
    if len(given) == 1:
        return ""
    return f"give exactly one of {', '.join(BUDGETS)}, not {' and '.join(given) or 'none'}"


class TrainConfig(Section):
    """How the cross-encoder is tuned. Exactly one of minutes, steps, epochs and replay is the budget."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A hub id, a folder, or `package:<distribution>`: any model with a sequence-classification head."""
    minutes: Positive | None = None
    steps: Annotated[int, Field(ge=0)] | None = None
    """0 takes the model as it is, a reranker that was trained elsewhere: no train split is needed."""
    epochs: Positive | None = None
    replay: str | None = None
    """The `train` folder of an earlier run: its steps are repeated exactly, whatever its budget was."""
    negatives: Count = 7
    """Negatives per positive in a training step."""
    max_length: Annotated[int, Field(ge=16)] = 256
    """Tokens of a query-document pair."""
    batch_tokens: Annotated[int, Field(ge=64)] = 8192
    """Tokens of one step, padding included."""
    learning_rate: Positive = 1e-4
    warmup: Share = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    dropout: Share = 0.0
    """Off by default: on a CPU it costs a quarter of the speed, and a short training does not overfit."""
    clip: Positive = 1.0
    """The gradient's largest norm."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the processor has it."""
    evaluations: Count = 3
    """How often dev is reranked, evenly spread over the budget; the best checkpoint is kept."""
    dev_queries: Count = 100
    dev_depth: Count = 30
    tracker: Literal["none", "wandb"] = "none"

    @model_validator(mode="after")
    def _one_budget(self) -> TrainConfig:
        if fault := budget_fault(self.model_dump()):
            raise ValueError(fault)
        return self


class ServeConfig(Section):
    """The two-stage pipeline."""

    depth: Count | None = None
    """Candidates that are reranked; none means chosen on dev."""
    max_depth: Count = 100
    """The deepest that is tried on dev."""
    weight: Share | None = None
    """The reranker's share in the final score; none means chosen on dev."""
    latency_ms: Positive | None = None
    """What a search may take on this machine, at the 95th percentile: bounds the depth, and the gate checks it."""
    fallback: bool = False
    """Answer in the first stage's order unless the gate let the pipeline through."""
    batch_tokens: Annotated[int, Field(ge=64)] = 8192
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @property
    def deepest(self) -> int:
        """Candidates that dev lists need."""
        return self.depth or self.max_depth


class RemoteConfig(Section):
    """A rerank API in Cohere's shape."""

    url: str
    model: str = ""
    api_key_env: str | None = None
    """The environment variable that holds the key."""


class GateConfig(Section):
    """When a pipeline may be shipped."""

    margin: float = 0.0
    """The lower bound of the gain in nDCG@10 over the first stage must lie above this."""
    leaks: Literal["documents", "queries", "ignore"] = "documents"
    """Judged on the queries that share neither text nor relevant document with train or dev; no text; or all."""
    export_loss: Annotated[float, Field(ge=0)] = 0.003
    """What an export may lose in nDCG@10."""


class EvaluateConfig(Section):
    """The proof."""

    split: str = "test"
    extra_splits: tuple[str, ...] = ()
    """Further test sets, reported beside."""
    max_queries: Count | None = None
    """Use only so many queries of each split, chosen by the seed; none means all."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=100)] = 10_000
    """Of the bootstrap interval and of the randomisation test."""
    untuned: bool = True
    """Also score with the model that training started from."""
    rerankers: dict[str, str] = {}
    """Further cross-encoders to compare with, by name, e.g. a teacher: hub ids or folders."""
    remote: RemoteConfig | None = None
    """A rerank API to compare with."""
    baseline_queries: Count | None = 200
    """The untuned model, further rerankers and the API score only so many queries; none means all."""
    exports: dict[str, str] = {}
    """Copies of the reranker in other forms, by name: folders. What they lose is what the gate checks."""
    replicates: tuple[str, ...] = ()
    """Bundles of the same training with other seeds: how much the result varies."""
    depth_queries: Count = 100
    """Queries of the curve over depths, where it goes deeper than the pipeline."""
    latency_queries: Count = 30
    """Queries that are timed, one by one."""
    slices: dict[str, str] = {}
    """Further parts of the test sets, by name: files with a query id at the start of every line."""
    gate: GateConfig = GateConfig()

    @model_validator(mode="after")
    def _free_names(self) -> EvaluateConfig:
        for name in (*self.rerankers, *self.exports):
            if name in SYSTEMS or name.split() != [name] or "/" in name:
                raise ValueError(
                    f"{name!r} cannot name a reranker: give one word without a slash that is none of "
                    f"{', '.join(SYSTEMS)}"
                )
        return self


class Config(Section):
    """One run."""

    output: str
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 13
    collection: CollectionConfig
    first_stage: FirstStageConfig = FirstStageConfig()
    mine: MineConfig = MineConfig()
    train: TrainConfig
    serve: ServeConfig = ServeConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _deep_enough(self) -> Config:
        deepest = max(self.serve.depth or 0, self.serve.max_depth)
        if self.first_stage.kind == "hybrid" and deepest > self.first_stage.depth:
            # Its scores depend on how much it fuses: a deeper search would be another first stage.
            raise ValueError(
                f"serve looks {deepest} documents deep, but the hybrid fuses only first_stage.depth="
                f"{self.first_stage.depth} of each retriever: raise this, or lower serve.depth and serve.max_depth"
            )
        return self
