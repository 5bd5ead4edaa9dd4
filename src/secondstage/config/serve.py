"""The two-stage pipeline."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Count, Positive, Section, Share


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
    """Tokens that are scored at once at most, padding included."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    backend: Literal["auto", "torch", "onnx", "onnx-int8", "openvino", "openvino-int8"] = "auto"
    """The engine that computes the scores of searches; auto takes the fastest of those in the bundle that rank as
    torch does, which is torch where there are none."""

    @property
    def deepest(self) -> int:
        """How deep dev is searched for the choices."""
        return self.depth or self.max_depth
