"""Engines that compute a cross-encoder's logits: torch, and others from a graph that was exported."""

from __future__ import annotations

from pathlib import Path

from ..compute import Precision
from ..errors import UserError
from ..pairmodel import PairModel
from ..rerankers import load_reranker
from .auto import choose_engine
from .engine import EngineReranker
from .record import GRAPHS
from .threads import set_torch_threads

TORCH = "torch"
AUTO = "auto"
# All that `serve.backend` may be.
ENGINES = (AUTO, TORCH, *GRAPHS)


def open_engine(
    model: Path,
    engines: Path,
    name: str = AUTO,
    *,
    batch_tokens: int | None = None,
    precision: Precision = "auto",
    threads: int | None = None,
) -> PairModel:
    """Open a reranker as an engine computes it.

    Args:
        model: the reranker's folder.
        engines: the folder that holds the engines, each below its own name; it need not exist.
        name: of `ENGINES`.
        batch_tokens: tokens scored at once, padding included; none takes what is fast for the engine.
        precision: of torch and of `openvino`; "auto" is bf16 where the processor has it.
        threads: that compute; none takes as many as the processor has, or OMP_NUM_THREADS says.

    Raises:
        UserError: no such engine, it is not in the folder, was changed or made from other weights, or its library is
            not installed.
    """
    if name not in ENGINES:
        raise UserError(f"there is no backend {name!r}: choose one of {', '.join(ENGINES)}")
    if name == AUTO:
        return choose_engine(model, engines, batch_tokens=batch_tokens, precision=precision, threads=threads)
    if name == TORCH:
        set_torch_threads(threads)
        return load_reranker(model, precision=precision, batch_tokens=batch_tokens or TORCH_TOKENS)
    return EngineReranker.open(
        model, engines / name, name, batch_tokens=batch_tokens, precision=precision, threads=threads
    )
