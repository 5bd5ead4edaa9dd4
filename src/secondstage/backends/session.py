"""What an engine gives: logits of batches, computed side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import UserError

Features = Mapping[str, npt.NDArray[np.int64]]
"""`[pairs, tokens]` each: `input_ids`, `attention_mask`, and `token_type_ids` where the graph reads them."""


class Session(Protocol):
    """A graph that was opened. Each call computes on one thread, and as many threads as there are may call at once."""

    @property
    def inputs(self) -> frozenset[str]:
        """The names of the features that the graph reads."""
        ...

    def logits(self, features: Features) -> npt.NDArray[np.float32]:
        """`[pairs]` logits."""
        ...


class Kind(NamedTuple):
    """How an engine's graphs are opened, and what is fast for it.

    Attributes:
        opens: from the graph's path, the threads that will call it, and whether to compute in half precision.
        library: that it needs.
        extra: of secondstage, which installs the library.
        batch_tokens: tokens that are computed at once, padding included.
        alone: whether each pair is computed by itself: where a batch shares scales, a pair's score depends on it.
        step: rows are as wide as a multiple of it, where an engine keeps kernels for every shape that it has met.
    """

    opens: Callable[[Path, int, bool], Session]
    library: str
    extra: Literal["onnx", "openvino"]
    batch_tokens: int
    alone: bool = False
    step: int = 1


def library_of(name: str, extra: str, engine: str) -> Any:
    """Import an engine's library.

    Raises:
        UserError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"backend {engine} needs {name}, which is not installed: pip install 'secondstage[{extra}]', or set "
            "serve.backend=torch"
        ) from None
