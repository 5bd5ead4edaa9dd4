"""Engines that compute a cross-encoder's logits: torch, and others from a graph that was exported."""

from __future__ import annotations

from pathlib import Path

from ..compute import Precision
from ..errors import UserError
from ..pairmodel import PairModel
from .auto import choose_engine
from .engine import EngineReranker
from .record import GRAPHS
from .threads import available_threads
from .torch import TORCH, open_torch

AUTO = "auto"
# All that `serve.backend` may be.
ENGINES = (AUTO, TORCH, *GRAPHS)

__all__ = ["AUTO", "ENGINES", "TORCH", "EngineReranker", "available_threads", "choose_engine", "open_engine"]


def open_engine(
    model: Path,
    engines: Path,
    name: str = AUTO,
    *,
    batch_tokens: int = 8192,
    precision: Precision = "auto",
    threads: int | None = None,
) -> PairModel:
    """Open a reranker as an engine computes it.

    Args:
        model: the reranker's folder.
        engines: the folder that holds the engines, each below its own name; it need not exist.
        name: of `ENGINES`.
        batch_tokens: tokens scored at once at most, padding included; fewer where that is faster.
        precision: of torch, and in OpenVINO of what is not quantised; "auto" is bf16 where the processor has it.
        threads: that compute; none takes all that the process may use.

    Raises:
        UserError: no such engine; or it is not in the folder, was altered or made from other weights, or its library is
            not installed. With `auto` such an engine is left out.
    """
    if name not in ENGINES:
        raise UserError(f"there is no backend {name!r}: choose one of {', '.join(ENGINES)}")
    if name == AUTO:
        return choose_engine(model, engines, batch_tokens=batch_tokens, precision=precision, threads=threads)
    if name == TORCH:
        return open_torch(model, batch_tokens=batch_tokens, precision=precision, threads=threads)
    return EngineReranker.open(
        model, engines / name, name, batch_tokens=batch_tokens, precision=precision, threads=threads
    )
