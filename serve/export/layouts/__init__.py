"""Layouts: an exported reranker as one engine or server reads it, a file each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from secondstage.run import Scores

from . import elasticsearch, onnx, opensearch, openvino, qdrant, safetensors, vespa
from .parts import Source, check_nothing, check_tokenizer, scores_of_weights

# The graph of the engine onnx once more, for engines with an older runtime.
OLD_ONNX = "onnx-old"


class Layout(NamedTuple):
    """One way out.

    Attributes:
        write: writes it into an empty folder.
        graph: the engine whose graph it holds, or `OLD_ONNX`; none where the plain weights do.
        check: raises `UserError` if this reranker cannot be written so; asked before any work, when there is no graph.
        scores: of pairs, by what was written.
    """

    write: Callable[[Source, Path], None]
    graph: str | None
    check: Callable[[Source], None] = check_nothing
    scores: Callable[[Source, Path, Sequence[tuple[str, str]]], Scores] = scores_of_weights


LAYOUTS = {
    "safetensors": Layout(safetensors.write, None),
    "onnx": Layout(onnx.write, "onnx", check_tokenizer, onnx.scores),
    "onnx-int8": Layout(onnx.write, "onnx-int8"),
    "openvino": Layout(openvino.write, "openvino"),
    "openvino-int8": Layout(openvino.write, "openvino-int8"),
    "opensearch": Layout(opensearch.write, OLD_ONNX, check_tokenizer, opensearch.scores),
    "vespa": Layout(vespa.write, "onnx", vespa.check, vespa.scores),
    "qdrant": Layout(qdrant.write, "onnx", check_tokenizer, qdrant.scores),
    "elasticsearch": Layout(elasticsearch.write, None, elasticsearch.check),
}

__all__ = ["LAYOUTS", "OLD_ONNX", "Layout", "Source"]
