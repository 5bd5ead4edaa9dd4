"""The two-stage pipeline."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Count, Positive, Section, Share


class CascadeStage(Section):
    """A reranker of a cascade."""

    model: str | None = None
    """A folder or a hub id; none is the reranker that this run makes, which comes last."""
    depth: Count
    """How much of the list that the stage before made it reads."""
    max_length: Annotated[int, Field(ge=8)] | None = None
    """Tokens of a pair; none means as the model's folder says. Not of the last stage: its own is trained."""


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
    cascade: tuple[CascadeStage, ...] = ()
    """Rerankers one after another, a small one first; the last is this run's own. Empty: it reads `depth` alone."""
    fallback: bool = False
    """Answer in the first stage's order unless the gate let the pipeline through."""
    batch_tokens: Annotated[int, Field(ge=64)] = 8192
    """Tokens that are scored at once at most, padding included."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    backend: Literal["auto", "torch", "onnx", "onnx-int8", "openvino", "openvino-int8"] = "auto"
    """The engine that computes the scores of searches; auto takes the fastest of those in the bundle that rank as
    torch does, which is torch where there are none."""

    @property
    def deepest(self) -> int:
        """How deep dev is searched for the choices."""
        return self.cascade[0].depth if self.cascade else self.depth or self.max_depth

    @model_validator(mode="after")
    def _falls(self) -> ServeConfig:
        stages, depths = self.cascade, [stage.depth for stage in self.cascade]
        if not stages:
            return self
        if len(stages) < 2 or stages[-1].model is not None or not all(stage.model for stage in stages[:-1]):
            raise ValueError(
                "serve.cascade: give a model to every stage but the last, which is the reranker that the run makes, "
                "e.g. [{model: student, depth: 100}, {depth: 30}]"
            )
        if depths != sorted(depths, reverse=True):
            raise ValueError(f"serve.cascade: the depths {depths} must not rise: each stage reads the best of the last")
        if stages[-1].max_length is not None:
            raise ValueError("serve.cascade: the last stage has the max_length that it was trained with")
        if self.depth is not None and self.depth != depths[-1]:
            raise ValueError(f"serve.depth={self.depth} is not that of the last stage of serve.cascade, {depths[-1]}")
        return self
