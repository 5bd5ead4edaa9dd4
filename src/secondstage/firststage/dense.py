"""Dense retrieval: a sentence-transformers bi-encoder over a FAISS index."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..collection import Documents
from ..compute import device, resolve
from ..config import DenseConfig
from ..files import writing
from ..models import loading, quiet_transformers
from ..progress import bar
from . import FirstStage, Hits

# Documents encoded between two ticks of the progress bar; long enough to sort by length within.
CHUNK = 2048


class Dense:
    """Cosine similarity of embeddings (Reimers and Gurevych 2019), exact search."""

    def __init__(self, config: DenseConfig, encoder: Any, index: Any) -> None:
        self.config = config
        self._encoder = encoder
        self._index = index

    @classmethod
    def build(cls, config: DenseConfig, documents: Documents, *, cache: Path | None = None) -> Dense:
        """Encode and index every document."""
        import faiss

        encoder = loading(config.model, _encoder)
        if config.max_length is not None:
            encoder.max_seq_length = min(config.max_length, encoder.max_seq_length or config.max_length)
        index = faiss.IndexFlatIP(encoder.get_embedding_dimension())
        dense = cls(config, encoder, index)
        progress = bar(total=len(documents), label="encode", unit="doc")
        chunk: list[str] = []
        for number, document in enumerate(documents, 1):
            chunk.append(document.content)
            if len(chunk) == CHUNK or number == len(documents):
                index.add(dense._encode(chunk, config.document_prompt))
                progress.update(len(chunk))
                chunk = []
        progress.close()
        return dense

    @classmethod
    def load(cls, config: DenseConfig, folder: Path) -> Dense:
        """Open what `save` wrote."""
        import faiss

        encoder = loading(str(folder / "encoder"), _encoder)
        return cls(config, encoder, faiss.read_index(str(folder / "dense.faiss")))

    def save(self, folder: Path) -> None:
        """Write the index and the encoder below `folder`, so that it can be opened where no hub is."""
        import faiss

        with writing(folder), quiet_transformers():
            faiss.write_index(self._index, str(folder / "dense.faiss"))
            self._encoder.save(str(folder / "encoder"), create_model_card=False)

    def parts(self) -> Mapping[str, FirstStage]:
        """Itself."""
        return {"dense": self}

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        """The nearest documents of each query."""
        if not queries:
            return []
        depth = min(depth, self._index.ntotal)
        scores, rows = self._index.search(self._encode(queries, self.config.query_prompt), depth)
        # FAISS leaves the order of equal scores open: the corpus order decides.
        order = np.lexsort((rows, -scores), axis=1)
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
        return [Hits(rows[i], scores[i], ("dense",) * depth) for i in range(len(queries))]

    def _encode(self, texts: Sequence[str], prompt: str) -> npt.NDArray[np.float32]:
        embeddings = self._working_encoder.encode(
            list(texts),
            prompt=prompt or None,
            batch_size=self.config.batch_size,
            show_progress_bar=False,
            convert_to_tensor=True,
        ).float()
        # Normalised here, in single precision: a bf16 norm is off by up to a half per cent, which reorders neighbours.
        unit = embeddings / embeddings.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return np.ascontiguousarray(unit.cpu().numpy())

    @cached_property
    def _working_encoder(self) -> Any:
        """The encoder as it computes; the one that is saved keeps the published weights."""
        import torch

        return copy.deepcopy(self._encoder).to(torch.bfloat16) if resolve("auto") == "bf16" else self._encoder


def _encoder(place: str) -> Any:
    from sentence_transformers import SentenceTransformer

    with quiet_transformers():
        return SentenceTransformer(place, device=device())
