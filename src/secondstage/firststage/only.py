"""What a first stage finds among some documents alone: those whose fields were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..run import Run
from . import FirstStage, Fusing, Hits, search_run

Kept = npt.NDArray[np.bool_]


def search_only(
    first_stage: FirstStage, doc_ids: Sequence[str], queries: Mapping[str, str], kept: Kept, depth: int
) -> Run:
    """Search many queries among some documents.

    Each retriever is searched twice as deep until it has found enough of them, or has no more to give. The parts of a
    hybrid are searched so before they are fused, as a fused score is relative to the whole list. The statistics of
    words are those of the whole corpus.

    Args:
        first_stage: any.
        doc_ids: of the corpus, by row.
        queries: texts by query id.
        kept: `[documents]` whether a row is to be found.
        depth: documents per query.
    """
    narrow: FirstStage = _Only(first_stage, kept)
    if isinstance(first_stage, Fusing):
        narrow = first_stage.with_parts({name: _Only(part, kept) for name, part in first_stage.parts().items()})
    return search_run(narrow, doc_ids, queries, depth)


class _Only:
    """A retriever that finds some rows alone."""

    def __init__(self, retriever: FirstStage, kept: Kept) -> None:
        self._retriever = retriever
        self._kept = kept
        self._count = int(kept.sum())

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        wanted = min(depth, self._count)
        found: dict[int, Hits] = {}
        open_queries = list(range(len(queries)))
        asked = depth
        while open_queries:
            rest = []
            hits = self._retriever.search([queries[i] for i in open_queries], asked)
            for i, here in zip(open_queries, hits, strict=True):
                found[i] = self._of(here, depth)
                # Fewer than were asked for: there are no more, or not as deep as the retriever goes.
                if len(found[i].rows) < wanted and len(here.rows) >= asked:
                    rest.append(i)
            open_queries, asked = rest, 2 * asked
        return [found[i] for i in range(len(queries))]

    def save(self, folder: Path) -> None:
        self._retriever.save(folder)

    def parts(self) -> Mapping[str, FirstStage]:
        return self._retriever.parts()

    def _of(self, hits: Hits, depth: int) -> Hits:
        places = np.flatnonzero(self._kept[hits.rows])[:depth]
        return Hits(hits.rows[places], hits.scores[places], tuple(hits.retrievers[i] for i in places.tolist()))
