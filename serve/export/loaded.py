"""Exports loaded back, as whatever computes scores with them: a graph by its engine, a folder by sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from secondstage.reranker import Reranker
from secondstage.run import Scores

from .graphs import ONNX, OPENVINO, OUTPUT, hushed


class GraphReranker(Reranker):
    """The reranker of a folder, its logits computed by a graph, on the processor."""

    @classmethod
    def open(cls, reranker: Path, engine: str, graph: Path) -> GraphReranker:
        """Open a graph.

        Args:
            reranker: the folder that it was made from.
            engine: a key of `GRAPHS`.
            graph: the folder with the graph.
        """
        base = Reranker.load(reranker, precision="fp32")
        made = cls(None, base.tokenizer, max_length=base.max_length, calibration=base.calibration, origin=base.origin)
        made.compute = _onnx(graph / ONNX) if engine.startswith("onnx") else _openvino(graph / OPENVINO, engine)
        return made

    def collate(self, rows: Mapping[str, Sequence[Sequence[int]]], places: Sequence[int]) -> Mapping[str, Any]:
        """The rows at `places` as arrays `[places, longest row]`."""
        features: Mapping[str, Any] = self.tokenizer.pad(
            {key: [rows[i] for i in places] for key, rows in rows.items()}, return_tensors="np"
        )
        return features

    def logits(self, features: Mapping[str, Any]) -> Any:
        """`[pairs]` scores."""
        import torch

        found = self.compute({name: np.asarray(values, np.int64) for name, values in features.items()})
        return torch.from_numpy(np.array(found[:, 0], np.float32))


def scores_of_folder(folder: Path, pairs: Sequence[tuple[str, str]]) -> Scores:
    """`[n]` scores of a folder as sentence-transformers opens it."""
    from sentence_transformers import CrossEncoder

    with hushed():
        model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
        return np.asarray(model.predict(list(pairs), show_progress_bar=False), np.float32)


def _onnx(path: Path) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda features: session.run([OUTPUT], features)[0]


def _openvino(path: Path, engine: str) -> Any:
    """In eight bits the rest is computed as it will be served: in bfloat16 where the processor has it."""
    import openvino

    hint = {} if engine.endswith("int8") else {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.compile_model(path, "CPU", hint)
    return lambda features: model(features)[OUTPUT]
