"""A first stage over other documents: vectors of those that stay are taken over, not computed again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..collection import Document, Documents
from ..config import FirstStageConfig
from ..embeddings import Embeddings, encode
from ..errors import UserError
from . import FirstStage, Fusing, load
from .bm25 import Bm25
from .dense import Dense, embed
from .sparse import Sparse
from .vectors import VectorIndex

Rows = npt.NDArray[np.int64]


def check_renewable(config: FirstStageConfig) -> None:
    """Raise `UserError` if a first stage of this kind has no index here that could be made anew."""
    if config.kind == "run":
        raise UserError(
            "the first stage is a run, a file of lists: it has no index, so documents can neither be added nor "
            "removed; give a run over the new documents, and make the bundle again"
        )
    if config.kind == "milvus":
        raise UserError(
            "the first stage is Milvus, whose collection is named after its documents: change the collection of the "
            "run and start `secondstage bundle` again, which fills a new one"
        )


def renew(
    config: FirstStageConfig, folder: Path, documents: Documents, kept: Sequence[int], cache: Path | None = None
) -> FirstStage:
    """Index other documents as the first stage in `folder` indexed its own.

    Args:
        config: of the first stage.
        folder: where it is.
        documents: those that stay, in the order of `kept`, and after them new ones.
        kept: the rows that those that stay had.
        cache: where embeddings may be found, should vectors be lost in a compressed index; none has none.

    Raises:
        UserError: its kind has no index here.
    """
    check_renewable(config)
    old = load(folder)
    rows = np.array(kept, np.int64)
    made = {name: _renewed(config, part, documents, rows, cache) for name, part in old.parts().items()}
    return old.with_parts(made) if isinstance(old, Fusing) else next(iter(made.values()))


def _renewed(
    config: FirstStageConfig, part: FirstStage, documents: Documents, kept: Rows, cache: Path | None
) -> FirstStage:
    if isinstance(part, Dense):
        return _dense(part, documents, kept, cache)
    if isinstance(part, Sparse):
        return part.with_documents(kept, [document.content for document in _after(documents, len(kept))])
    return Bm25.build(config.bm25, documents)


def _dense(part: Dense, documents: Documents, kept: Rows, cache: Path | None) -> Dense:
    old = part.index.vectors()
    if old is None:
        embeddings = embed(part.config, documents, part.encoder, cache=cache)
    else:
        count = len(documents) - len(kept)
        texts = (document.content for document in _after(documents, len(kept)))
        new = encode(texts, part.encoder, part.config.document_prompt, total=count, label="encode")
        embeddings = Embeddings([old[kept], *new], part.encoder.dimension, [len(kept), *np.diff(new.starts).tolist()])
    return Dense(part.config, part.encoder, VectorIndex.build(part.config, embeddings))


def _after(documents: Documents, start: int) -> Iterator[Document]:
    return (documents[row] for row in range(start, len(documents)))
