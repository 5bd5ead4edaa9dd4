"""First stages: fast retrieval of the candidates that the reranker orders.

The stage that is built here is the one that is mined, evaluated and deployed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..collection import Documents
from ..config import FirstStageConfig
from ..errors import UserError
from ..files import file_digest, read_json, write_json
from ..models import identity
from ..run import Ranking, Run, strictly_decreasing


class Hits(NamedTuple):
    """What a retriever found for one query, best first.

    Attributes:
        rows: `[n]` row numbers of documents.
        scores: `[n]` scores, not increasing.
        retrievers: `[n]` who found each document.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    retrievers: tuple[str, ...]


class FirstStage(Protocol):
    """The contract of every first stage: search by text, and live in a folder."""

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        """Up to `depth` documents for each query; fewer where fewer match."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything that `load` needs into an existing folder."""
        ...

    def parts(self) -> Mapping[str, FirstStage]:
        """The retrievers inside, by name; a single retriever is its only part."""
        ...


@runtime_checkable
class Fusing(FirstStage, Protocol):
    """A first stage whose lists may be fused of those of its parts."""

    def with_parts(self, parts: Mapping[str, FirstStage]) -> FirstStage:
        """The same fusion of other retrievers, by the same names."""
        ...


def made_from(config: FirstStageConfig) -> dict[str, str]:
    """What, beside its settings and the corpus, decides whether a first stage is still the same.

    Returns:
        How BM25 cuts words, the identity of every encoder, the digest of every file.

    Raises:
        UserError: a model or file is not there, a language is unknown, a library or a token is missing: before the
            work, not after it.
    """
    from .milvusstore import check_settings
    from .words import WORDS, check_language

    found: dict[str, str] = {}
    if config.uses("bm25"):
        check_language(config.bm25.language)
        found["words"] = str(WORDS)
    if config.kind == "milvus":
        check_settings(config.milvus)
    models = {"dense": config.dense.model, "sparse": config.sparse.model}
    found |= {name: identity(model) for name, model in models.items() if config.uses(name)}
    for name in config.run if config.kind == "run" else ():
        path = Path(name).expanduser()
        if not path.is_file():
            raise UserError(f"first_stage.run: {path} is not there; give TREC files")
        found[name] = file_digest(path)
    return found


def build(
    config: FirstStageConfig,
    documents: Documents,
    *,
    cache: Path | None = None,
    queries: Mapping[str, str] | None = None,
) -> FirstStage:
    """Index the documents.

    Args:
        config: the kind, and its settings.
        documents: the corpus.
        cache: a folder where embeddings may be kept, so that none is computed twice; none keeps none.
        queries: text by query id, which the kind run needs.

    Raises:
        UserError: there is nothing to index, or a model, file or server is not what it has to be.
    """
    from .builders import KINDS, Material

    return KINDS[config.kind].build(config, Material(documents, cache, queries or {}))


def share(config: FirstStageConfig, documents: Documents, cache: Path) -> None:
    """Compute this process's part of what several compute together before one of them builds: the vectors."""
    if config.uses("dense"):
        from .dense import embed, load_encoder

        embed(config.dense, documents, load_encoder(config.dense), cache=cache, together=True)
    if config.uses("sparse"):
        from .sparse import load_term_encoder, weigh

        weigh(config.sparse, documents, load_term_encoder(config.sparse), cache=cache, together=True)


def save(first_stage: FirstStage, config: FirstStageConfig, folder: Path) -> None:
    """Write a first stage and its configuration into an existing folder."""
    first_stage.save(folder)
    write_json(folder / "first_stage.json", config.model_dump(mode="json"))


def load(folder: Path) -> FirstStage:
    """Open what `save` wrote; nothing outside the folder is needed, but a cluster where Milvus runs on one."""
    from .builders import KINDS

    config = FirstStageConfig.from_json(read_json(folder / "first_stage.json"))
    return KINDS[config.kind].load(config, folder)


def check_query(first_stage: FirstStage, query: str) -> None:
    """Raise `UserError` if the first stage answers only the queries of a run, and this is none of them."""
    from .given import Given

    if isinstance(first_stage, Given):
        first_stage.check(query)


def answered(first_stage: FirstStage, queries: Sequence[str]) -> list[str]:
    """The queries that the first stage can answer: all, but for a run, which has lists for some."""
    from .given import Given

    return [query for query in queries if not isinstance(first_stage, Given) or first_stage.answers(query)]


def search_run(
    first_stage: FirstStage, doc_ids: Sequence[str], queries: Mapping[str, str], depth: int, name: str = "first_stage"
) -> Run:
    """Search many queries (text by query id) and name the documents found by their ids."""
    found = first_stage.search(list(queries.values()), depth)
    return Run(name, {query_id: _ranking(hits, doc_ids) for query_id, hits in zip(queries, found, strict=True)})


def _ranking(hits: Hits, doc_ids: Sequence[str]) -> Ranking:
    rows: list[int] = hits.rows.tolist()
    return Ranking(tuple(doc_ids[row] for row in rows), strictly_decreasing(hits.scores), hits.retrievers)
