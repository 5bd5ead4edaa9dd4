"""A sentence-transformers bi-encoder: texts to vectors of length 1."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..compute import device, resolve
from ..files import writing
from ..models import loading, quiet_transformers


class Encoder:
    """A bi-encoder (Reimers and Gurevych 2019) as it computes here."""

    def __init__(self, model: Any, batch_size: int = 64) -> None:
        self._model, self._batch_size = model, batch_size

    @classmethod
    def load(cls, name: str, *, max_length: int | None = None, batch_size: int = 64) -> Encoder:
        """Load a model by name or from a folder. `UserError` if it cannot be."""
        model = loading(name, _open)
        if max_length is not None:
            model.max_seq_length = min(max_length, model.max_seq_length or max_length)
        return cls(model, batch_size)

    @property
    def dimension(self) -> int:
        """Of the vectors."""
        return int(self._model.get_embedding_dimension())

    def save(self, folder: Path) -> None:
        """Write the model as it was published, so that it can be opened where no hub is."""
        with writing(folder), quiet_transformers():
            self._model.save(str(folder), create_model_card=False)

    def encode(self, texts: Sequence[str], prompt: str = "") -> npt.NDArray[np.float32]:
        """`[n, dimension]` vectors of length 1."""
        embeddings = self._working_model.encode(
            list(texts),
            prompt=prompt or None,
            batch_size=self._batch_size,
            show_progress_bar=False,
            convert_to_tensor=True,
        ).float()
        # Normalised here, in single precision: a bf16 norm is off by up to a half per cent, which reorders neighbours.
        unit = embeddings / embeddings.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return np.ascontiguousarray(unit.cpu().numpy())

    @cached_property
    def _working_model(self) -> Any:
        """The model as it computes; the one that is saved keeps the published weights."""
        import torch

        return copy.deepcopy(self._model).to(torch.bfloat16) if resolve("auto") == "bf16" else self._model


def _open(place: str) -> Any:
    from sentence_transformers import SentenceTransformer

    with quiet_transformers():
        return SentenceTransformer(place, device=device())
