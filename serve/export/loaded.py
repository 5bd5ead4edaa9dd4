"""Exports loaded back: a graph by its engine as the bundle serves it, files as those read them whom they are for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from secondstage.backends.engine import KINDS, EngineReranker
from secondstage.backends.record import write_record
from secondstage.compute import Precision
from secondstage.errors import UserError, in_a_line
from secondstage.run import Scores

from .graphs import hushed


def scores_of_graph(
    folder: Path,
    engine: str,
    reranker: Path,
    pairs: Sequence[tuple[str, str]],
    *,
    label: str | None = None,
    precision: Precision = "fp32",
) -> Scores:
    """`[n]` scores of a graph, through the very code that serves it.

    Thousands of pairs are batched by length, so that hardly one is padded, while a search of a few documents pads a
    short one to the length of a long one: the scores of the shortest pair and of the longest are those of the two
    together.

    Args:
        folder: holds the graph's files; it gets a record.
        engine: a key of `GRAPHS`.
        reranker: the folder that it was made from.
        pairs: `[n]` (query text, document text).
        label: shows a progress bar under this name.
        precision: of what is not quantised, in OpenVINO.

    Raises:
        UserError: the graph cannot be computed, or a score is not finite.
    """
    write_record(folder, engine, reranker, {})
    opened = EngineReranker.open(reranker, folder, engine, precision=precision)
    try:
        scores = opened.score(pairs, label=label)
        if pairs and not KINDS[engine].alone:
            lengths = [len(query) + len(document) for query, document in pairs]
            ends = [int(np.argmin(lengths)), int(np.argmax(lengths))]
            scores[ends] = opened.logits(opened.collate(opened.tokenize([pairs[i] for i in ends]), (0, 1))).numpy()
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{engine}: the graph was made, but cannot be computed: {in_a_line(error)}. Export --to safetensors "
            "instead, which needs no graph"
        ) from error
    if not np.isfinite(scores).all():
        raise UserError(
            f"{engine}: a short pair that is computed together with a long one gets a score that is not finite, so "
            "searches would fail. Export --to safetensors instead, which needs no graph"
        )
    return scores


def scores_of_folder(folder: Path, pairs: Sequence[tuple[str, str]]) -> Scores:
    """`[n]` scores of a folder as sentence-transformers opens it."""
    from sentence_transformers import CrossEncoder

    with hushed():
        model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
        return np.asarray(model.predict(list(pairs), show_progress_bar=False), np.float32)


def scores_of_files(graph: Path | bytes, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> Scores:
    """`[n]` scores of a graph by ONNX Runtime, on what the tokenizer of a `tokenizer.json` makes of each pair alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    scores = []
    for query, document in pairs:
        row = tokenizer.encode(query, document)
        features = {"input_ids": row.ids, "attention_mask": row.attention_mask, "token_type_ids": row.type_ids}
        (found,) = session.run(None, {name: np.array([features[name]], np.int64) for name in names})
        scores.append(np.asarray(found)[0, 0])
    return np.array(scores, np.float32)
