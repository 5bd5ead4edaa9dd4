"""Exports loaded back: a graph by its engine as the bundle serves it, a folder by sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from secondstage.backends.engine import EngineReranker
from secondstage.backends.record import write_record
from secondstage.run import Scores

from .graphs import hushed


def scores_of_graph(
    folder: Path, engine: str, reranker: Path, pairs: Sequence[tuple[str, str]], *, label: str | None = None
) -> Scores:
    """`[n]` scores of a graph, through the very code that serves it.

    In single precision, but for eight bits: there the rest is computed as it will be served, in bfloat16 where the
    processor has it.

    Args:
        folder: holds the graph's files; it gets a record.
        engine: a key of `GRAPHS`.
        reranker: the folder that it was made from.
        pairs: `[n]` (query text, document text).
        label: shows a progress bar under this name.
    """
    write_record(folder, engine, reranker, {})
    opened = EngineReranker.open(reranker, folder, engine, precision="auto" if engine.endswith("int8") else "fp32")
    return opened.score(pairs, label=label)


def scores_of_folder(folder: Path, pairs: Sequence[tuple[str, str]]) -> Scores:
    """`[n]` scores of a folder as sentence-transformers opens it."""
    from sentence_transformers import CrossEncoder

    with hushed():
        model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
        return np.asarray(model.predict(list(pairs), show_progress_bar=False), np.float32)
