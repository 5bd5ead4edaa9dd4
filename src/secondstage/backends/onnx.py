"""ONNX Runtime on the processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from .session import Features


class OnnxSession:
    """A graph that ONNX Runtime computes."""

    def __init__(self, graph: Path, threads: int, half: bool) -> None:
        """Open a graph.

        Args:
            graph: `model.onnx`.
            threads: that call at once; each call computes on the thread that calls.
            half: of no meaning here: the graph says its precision.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.inputs = frozenset(port.name for port in self.session.get_inputs())

    def logits(self, features: Features) -> npt.NDArray[np.float32]:
        """`[pairs]` logits."""
        (found,) = self.session.run(None, dict(features))
        return np.asarray(found, np.float32)[:, 0]
