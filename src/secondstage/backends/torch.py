"""torch itself, as one of the engines."""

from __future__ import annotations

from pathlib import Path

from ..compute import Precision, device
from ..pairmodel import PairModel
from ..rerankers import load_reranker
from .threads import set_torch_threads

TORCH = "torch"
# On a processor, larger batches leave its caches: a tenth slower at 8192 than at 4096.
CPU_TOKENS = 4096


def open_torch(
    model: Path, *, batch_tokens: int = 8192, precision: Precision = "auto", threads: int | None = None
) -> PairModel:
    """Open a reranker of any kind; see `backends.open_engine`."""
    set_torch_threads(threads)
    if device() == "cpu":
        batch_tokens = min(batch_tokens, CPU_TOKENS)
    return load_reranker(model, batch_tokens=batch_tokens, precision=precision)
