"""The proof."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Count, Section
from .remote import RemoteConfig

# The systems of every evaluation.
SYSTEMS = (
    "first_stage",
    "bm25",
    "dense",
    "sparse",
    "identity",
    "random",
    "untuned",
    "remote",
    "reranked",
    "pipeline",
    "oracle",
)


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
    rerankers: dict[str, str] = Field(default_factory=dict)
    """Further cross-encoders to compare with, by name, e.g. a teacher: hub ids or folders."""
    remote: RemoteConfig | None = None
    """A rerank API to compare with."""
    baseline_queries: Count | None = 200
    """The untuned model, further rerankers and the API score only so many queries; none means all."""
    exports: dict[str, str] = Field(default_factory=dict)
    """Copies of the reranker in other forms, by name: folders. What they lose is what the gate checks."""
    replicates: tuple[str, ...] = ()
    """Bundles of the same training with other seeds: how much the result varies."""
    depth_queries: Count = 100
    """Queries of the curve over depths, where it goes deeper than the pipeline."""
    latency_queries: Count = 30
    """Queries that are timed, one by one."""
    slices: dict[str, str] = Field(default_factory=dict)
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
