"""A teacher whose scores were made elsewhere, and are in a TREC run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..run import Scores, read_trec_scores


class ScoresFile:
    """The scores of a TREC run, looked up by query and document ids; what is not in it has none."""

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            UserError: as `read_trec_scores`.
        """
        # Not as a run, which tells ties apart: an order that the teacher did not give would be learnt.
        self._scores, _ = read_trec_scores(path)
        self.lists = self.pairs = self.found = 0

    def look_up(self, asked: Sequence[tuple[str, Sequence[str]]]) -> list[Scores]:
        """Of each list of (query id, document ids) `[documents]` scores, NaN of what is not in the file."""
        scores = [self._list(query_id, doc_ids) for query_id, doc_ids in asked]
        self.lists += len(scores)
        self.pairs += sum(map(len, scores))
        self.found += sum(int(np.isfinite(values).sum()) for values in scores)
        return scores

    def _list(self, query_id: str, doc_ids: Sequence[str]) -> Scores:
        known = self._scores.get(query_id, {})
        return np.array([known.get(doc_id, np.nan) for doc_id in doc_ids], np.float32)

    def score_lists(self, lists: Sequence[tuple[str, Sequence[str]]], *, label: str | None = None) -> list[Scores]:
        """NaN: the file knows ids, not texts, so of queries that were made just now, say, it says nothing."""
        return [np.full(len(documents), np.nan, np.float32) for _, documents in lists]

    def report(self) -> dict[str, Any]:
        """Lists and pairs looked up, and pairs found."""
        return {"lists": self.lists, "pairs": self.pairs, "found": self.found}
