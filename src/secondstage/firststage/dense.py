"""Dense retrieval: a sentence-transformers bi-encoder over a FAISS index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..collection import Documents
from ..config import DenseConfig
from ..embeddings import Embeddings, encode
from ..encoder import Encoder
from ..files import writing
from . import FirstStage, Hits
from .vectors import VectorIndex


class Dense:
    """Cosine similarity of embeddings (Reimers and Gurevych 2019), exact or nearly so.

    Attributes:
        config: its settings.
        encoder: the model.
        index: the vectors of the documents.
    """

    def __init__(self, config: DenseConfig, encoder: Encoder, index: VectorIndex) -> None:
        self.config = config
        self.encoder = encoder
        self.index = index

    @classmethod
    def build(cls, config: DenseConfig, documents: Documents, *, cache: Path | None = None) -> Dense:
        """Encode and index every document; what `cache` holds is not encoded again."""
        encoder = load_encoder(config)
        return cls(config, encoder, VectorIndex.build(config, embed(config, documents, encoder, cache=cache)))

    @classmethod
    def load(cls, config: DenseConfig, folder: Path) -> Dense:
        """Open what `save` wrote."""
        encoder = Encoder.load(str(folder / "encoder"), batch_size=config.batch_size)
        return cls(config, encoder, VectorIndex.load(folder))

    def save(self, folder: Path) -> None:
        """Write the index and the encoder below `folder`, so that it can be opened where no hub is."""
        with writing(folder):
            self.index.save(folder)
            self.encoder.save(folder / "encoder")

    def parts(self) -> Mapping[str, FirstStage]:
        """Itself."""
        return {"dense": self}

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        """The nearest documents of each query; equal scores in the order of the corpus."""
        embedded = encode(queries, self.encoder, self.config.query_prompt, total=len(queries))
        return [
            Hits(rows, scores, ("dense",) * len(rows))
            for block in embedded
            for rows, scores in self.index.search(block, depth)
        ]


def load_encoder(config: DenseConfig) -> Encoder:
    """The model of the config, ready to encode. `UserError` if it cannot be loaded."""
    return Encoder.load(config.model, max_length=config.max_length, batch_size=config.batch_size)


def embed(
    config: DenseConfig,
    documents: Documents,
    encoder: Encoder,
    *,
    cache: Path | None = None,
    together: bool = False,
) -> Embeddings:
    """The vectors of all documents.

    With `together`, every process of a run calls this and encodes its share; after it, `Dense.build` with the same
    cache encodes nothing, in any of them.
    """
    texts = (document.content for document in documents)
    return encode(
        texts, encoder, config.document_prompt, cache, total=len(documents), label="encode", together=together
    )
