"""What a first stage would find if some documents were not there: queries that the corpus does not answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..run import Run
from . import FirstStage, Fusing, Hits, search_run


def search_without(
    first_stage: FirstStage,
    doc_ids: Sequence[str],
    queries: Mapping[str, str],
    excluded: Mapping[str, Collection[str]],
    depth: int,
) -> Run:
    """Search many queries, each as if its excluded documents were not in the corpus.

    The parts of a hybrid are searched so before they are fused: a fused score is relative to the whole list, so that
    to take a document out of the fused list would leave its mark in the scores of the others. The statistics of words
    are those of the whole corpus.

    Args:
        first_stage: any.
        doc_ids: of the corpus, by row.
        queries: texts by query id.
        excluded: document ids by query id; none for a query that is not there.
        depth: documents per query.
    """
    rows = {doc_id: row for row, doc_id in enumerate(doc_ids)}
    hidden = [
        frozenset(rows[doc_id] for doc_id in excluded.get(query_id, ()) if doc_id in rows) for query_id in queries
    ]
    blind: FirstStage = _Blind(first_stage, hidden)
    if isinstance(first_stage, Fusing):
        blind = first_stage.with_parts({name: _Blind(part, hidden) for name, part in first_stage.parts().items()})
    return search_run(blind, doc_ids, queries, depth)


class _Blind:
    """A retriever that does not see some rows, which are given for each query of the one call of `search`."""

    def __init__(self, retriever: FirstStage, hidden: Sequence[frozenset[int]]) -> None:
        self._retriever = retriever
        self._hidden = hidden

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        deeper = depth + max(map(len, self._hidden), default=0)
        found = self._retriever.search(queries, deeper)
        return [_without(hits, hidden, depth) for hits, hidden in zip(found, self._hidden, strict=True)]

    def save(self, folder: Path) -> None:
        self._retriever.save(folder)

    def parts(self) -> Mapping[str, FirstStage]:
        return self._retriever.parts()


def _without(hits: Hits, hidden: frozenset[int], depth: int) -> Hits:
    kept = np.flatnonzero(~np.isin(hits.rows, list(hidden)))[:depth]
    return Hits(hits.rows[kept], hits.scores[kept], tuple(hits.retrievers[i] for i in kept.tolist()))
