"""OpenVINO on the processor."""

from __future__ import annotations

import queue
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .session import Features


class OpenvinoSession:
    """A graph that OpenVINO computes, a stream for each thread: two streams of one thread beat one of two."""

    def __init__(self, graph: Path, threads: int, half: bool) -> None:
        """Compile a graph for this processor.

        Args:
            graph: `openvino_model.xml`.
            threads: that call at once; each call computes on a stream of its own.
            half: compute in bf16 what is not quantised.
        """
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            # Several processes would be pinned to the same processors.
            "ENABLE_CPU_PINNING": False,
            # Kernels are kept for so many shapes of layers. The default of 5,000 lets a server grow by gigabytes.
            "CPU_RUNTIME_CACHE_CAPACITY": 1000,
        }
        core = openvino.Core()
        self.compiled = core.compile_model(core.read_model(graph), "CPU", settings)
        self.inputs = frozenset(port.any_name for port in self.compiled.inputs)
        self._requests: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()
        for _ in range(threads):
            self._requests.put(self.compiled.create_infer_request())

    def logits(self, features: Features) -> npt.NDArray[np.float32]:
        """`[pairs]` logits."""
        request = self._requests.get()
        try:
            found = request.infer(dict(features), share_inputs=True)
            return np.array(found[0], np.float32)[:, 0]
        finally:
            self._requests.put(request)
