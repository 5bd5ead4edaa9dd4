"""Learned sparse retrieval: a sentence-transformers sparse encoder over an inverted index of term weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..collection import Documents
from ..compute import device
from ..config import SparseConfig
from ..errors import UserError
from ..files import writing
from ..models import loading, quiet_transformers
from ..progress import bar
from . import FirstStage, Hits

# Documents encoded between two ticks of the progress bar; long enough to sort by length within.
CHUNK = 1024
# Scores computed at a time, for as many queries as that makes: at most about half a GiB.
BLOCK = 1 << 26


class Sparse:
    """The dot product of term weights that a model gives to query and document (SPLADE, Formal et al. 2021)."""

    def __init__(self, config: SparseConfig, encoder: Any, postings: Any) -> None:
        """Hold what `build` made.

        Args:
            config: prompts and batch size.
            encoder: a `SparseEncoder`.
            postings: `[terms, documents]` weights, a SciPy CSR matrix: a row is the list of the documents of a term.
        """
        self.config = config
        self._encoder = encoder
        self._postings = postings

    @classmethod
    def build(cls, config: SparseConfig, documents: Documents) -> Sparse:
        """Encode and index every document.

        Raises:
            UserError: the model cannot be loaded, or is no sparse encoder.
        """
        from scipy import sparse

        encoder = loading(config.model, _encoder)
        if config.max_length is not None:
            encoder.max_seq_length = min(config.max_length, encoder.max_seq_length or config.max_length)
        built = cls(config, encoder, None)
        progress = bar(total=len(documents), label="encode sparsely", unit="doc")
        chunks: list[Any] = []
        texts: list[str] = []
        for number, document in enumerate(documents, 1):
            texts.append(document.content)
            if len(texts) == CHUNK or number == len(documents):
                chunks.append(built._encode(encoder.encode_document, texts, config.document_prompt))
                progress.update(len(texts))
                texts = []
        progress.close()
        built._postings = sparse.vstack(chunks, format="csr").T.tocsr()
        return built

    @classmethod
    def load(cls, config: SparseConfig, folder: Path) -> Sparse:
        """Open what `save` wrote."""
        from scipy import sparse

        encoder = loading(str(folder / "sparse_encoder"), _encoder)
        return cls(config, encoder, sparse.load_npz(folder / "sparse.npz"))

    def save(self, folder: Path) -> None:
        """Write the index and the encoder below `folder`, so that it can be opened where no hub is."""
        from scipy import sparse

        with writing(folder), quiet_transformers():
            sparse.save_npz(folder / "sparse.npz", self._postings, compressed=False)
            self._encoder.save(str(folder / "sparse_encoder"), create_model_card=False)

    def parts(self) -> Mapping[str, FirstStage]:
        """Itself."""
        return {"sparse": self}

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        """The documents that share a term with the query; equal scores in the order of the corpus."""
        found: list[Hits] = []
        size = max(1, BLOCK // self._postings.shape[1])
        for start in range(0, len(queries), size):
            block = queries[start : start + size]
            scores = self._encode(self._encoder.encode_query, block, self.config.query_prompt) @ self._postings
            for begin, end in zip(scores.indptr, scores.indptr[1:], strict=False):
                found.append(_best(scores.indices[begin:end], scores.data[begin:end], depth))
        return found

    def _encode(self, encode: Any, texts: Sequence[str], prompt: str) -> Any:
        """`[texts, terms]` weights as a CSR matrix, each row in the order of the terms."""
        from scipy import sparse

        weights = encode(
            list(texts),
            prompt=prompt or None,
            batch_size=self.config.batch_size,
            show_progress_bar=False,
            save_to_cpu=True,
        ).coalesce()
        rows, terms = weights.indices().numpy()
        values = weights.values().float().numpy()
        return sparse.coo_matrix((values, (rows, terms)), shape=tuple(weights.shape)).tocsr()


def _best(rows: Any, scores: Any, depth: int) -> Hits:
    """The `depth` best of the documents found."""
    if len(rows) > depth:
        # Everything that ties with the last place stays in, so that the cut is the corpus order's, not chance's.
        kept = scores >= np.partition(scores, -depth)[-depth]
        rows, scores = rows[kept], scores[kept]
    order = np.lexsort((rows, -scores))[:depth]
    return Hits(rows[order].astype(np.int64), scores[order].astype(np.float32), ("sparse",) * len(order))


def _encoder(place: str) -> Any:
    """Load a sparse encoder; `UserError` for any other model, which the library would complete with random weights."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder
    from sentence_transformers.util import load_file_path

    with quiet_transformers():
        encoder = SparseEncoder(place, device=device())
    saved = load_file_path(place, "config_sentence_transformers.json")
    ours = saved is not None and '"SparseEncoder"' in Path(saved).read_text(encoding="utf-8")
    if not ours and any(isinstance(module, SparseAutoEncoder) for module in encoder.children()):
        raise UserError(
            f"first_stage.sparse.model: {place} is no sparse encoder: give one of SPLADE's kind, a masked language "
            "model whose head weighs the words"
        )
    return encoder
