"""Learned sparse retrieval: a sentence-transformers sparse encoder over an inverted index of term weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..collection import Documents
from ..compute import device
from ..config import SparseConfig
from ..embeddings import Format, encode_shards
from ..encoder import model_digest, restorer
from ..errors import UserError
from ..files import writing
from ..models import loading, quiet_transformers
from . import FirstStage, Hits

# Documents encoded between two ticks of the progress bar; long enough to sort by length within.
CHUNK = 1024
# Scores computed at a time, for as many queries as that makes: at most about half a GiB.
BLOCK = 1 << 26


class Sparse:
    """The dot product of term weights that a model gives to query and document (SPLADE, Formal et al. 2021)."""

    def __init__(self, config: SparseConfig, encoder: TermEncoder, postings: Any) -> None:
        """Hold what `build` made.

        Args:
            config: the query prompt.
            encoder: the model.
            postings: `[terms, documents]` weights, a SciPy CSR matrix: a row is the list of the documents of a term.
        """
        self.config = config
        self._encoder = encoder
        self._postings = postings

    @classmethod
    def build(cls, config: SparseConfig, documents: Documents, *, cache: Path | None = None) -> Sparse:
        """Encode and index every document; what `cache` holds is not encoded again.

        Raises:
            UserError: the model cannot be loaded, or is no sparse encoder.
        """
        from scipy import sparse

        encoder = load_term_encoder(config)
        shards = weigh(config, documents, encoder, cache=cache)
        weights = [sparse.load_npz(shard) if isinstance(shard, Path) else shard for shard in shards]
        return cls(config, encoder, sparse.vstack(weights, format="csr").T.tocsr())

    @classmethod
    def load(cls, config: SparseConfig, folder: Path) -> Sparse:
        """Open what `save` wrote."""
        from scipy import sparse

        encoder = TermEncoder(loading(str(folder / "sparse_encoder"), _encoder), config.batch_size)
        return cls(config, encoder, sparse.load_npz(folder / "sparse.npz"))

    def save(self, folder: Path) -> None:
        """Write the index and the encoder below `folder`, so that it can be opened where no hub is."""
        from scipy import sparse

        with writing(folder):
            sparse.save_npz(folder / "sparse.npz", self._postings, compressed=False)
            self._encoder.save(folder / "sparse_encoder")

    def parts(self) -> Mapping[str, FirstStage]:
        """Itself."""
        return {"sparse": self}

    def with_documents(self, kept: Any, texts: Sequence[str]) -> Sparse:
        """The same over the documents of some rows, and after them new texts, which alone are encoded."""
        from scipy import sparse

        weights = [self._postings.T.tocsr()[kept]]
        if texts:
            weights.append(self._encoder.encode(texts, self.config.document_prompt))
        return Sparse(self.config, self._encoder, sparse.vstack(weights, format="csr").T.tocsr())

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        """The documents that share a term with the query; equal scores in the order of the corpus."""
        found: list[Hits] = []
        size = max(1, BLOCK // self._postings.shape[1])
        for start in range(0, len(queries), size):
            block = queries[start : start + size]
            scores = self._encoder.encode_queries(block, self.config.query_prompt) @ self._postings
            for begin, end in zip(scores.indptr, scores.indptr[1:], strict=False):
                found.append(_best(scores.indices[begin:end], scores.data[begin:end], depth))
        return found


class TermEncoder:
    """A `SparseEncoder`, which weighs terms: `[texts, terms]` CSR matrices, each row in the order of the terms."""

    def __init__(self, model: Any, batch_size: int) -> None:
        self._model = model
        self._batch_size = batch_size
        self._restore = restorer(model)

    @cached_property
    def digest(self) -> str:
        """Of everything that decides a document's weights but its text and the prompt given."""
        self._restore()
        model = self._model
        return model_digest(model, model.max_active_dims, model.prompts, model.default_prompt_name)

    def save(self, folder: Path) -> None:
        """Write the model: the same files whether it has encoded before or not."""
        self._restore()
        with quiet_transformers():
            self._model.save(str(folder), create_model_card=False)

    def encode(self, texts: Sequence[str], prompt: str = "", advance: Callable[[int], object] | None = None) -> Any:
        """The weights of documents; `advance` hears of every so many that are done."""
        from scipy import sparse

        chunks = []
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            chunks.append(self._encode(self._model.encode_document, chunk, prompt))
            if advance is not None:
                advance(len(chunk))
        return sparse.vstack(chunks, format="csr")

    def encode_queries(self, texts: Sequence[str], prompt: str = "") -> Any:
        """The weights of queries."""
        return self._encode(self._model.encode_query, texts, prompt)

    def _encode(self, encode: Any, texts: Sequence[str], prompt: str) -> Any:
        from scipy import sparse

        weights = encode(
            list(texts),
            prompt=prompt or None,
            batch_size=self._batch_size,
            show_progress_bar=False,
            save_to_cpu=True,
        ).coalesce()
        rows, terms = weights.indices().numpy()
        values = weights.values().float().numpy()
        return sparse.coo_matrix((values, (rows, terms)), shape=tuple(weights.shape)).tocsr()


def load_term_encoder(config: SparseConfig) -> TermEncoder:
    """The model of the config. `UserError` if it cannot be loaded, or is no sparse encoder."""
    model = loading(config.model, _encoder)
    if config.max_length is not None:
        model.max_seq_length = min(config.max_length, model.max_seq_length or config.max_length)
    return TermEncoder(model, config.batch_size)


def weigh(
    config: SparseConfig,
    documents: Documents,
    encoder: TermEncoder,
    *,
    cache: Path | None = None,
    together: bool = False,
) -> list[Any]:
    """The weights of all documents, shard by shard, or the files that hold them; `together` as in `dense.embed`."""
    texts = (document.content for document in documents)
    prompt, total = config.document_prompt, len(documents)
    found = encode_shards(texts, encoder, NPZ, prompt, cache, total=total, label="encode sparsely", together=together)
    return [shard for shard, _ in found]


def _save(file: BinaryIO, weights: Any) -> None:
    from scipy import sparse

    sparse.save_npz(file, weights, compressed=False)


NPZ: Format[Any] = Format(".npz", _save)


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
