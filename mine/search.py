"""The candidates of many queries: searched shard by shard, each shard a file, so that no query is searched twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from secondstage.files import fingerprint
from secondstage.firststage import FirstStage, search_run
from secondstage.run import Run
from secondstage.runfile import read_run, write_run

# Below a run's output: it belongs to no stage and outlives them all.
CANDIDATES = "candidates"
# What a kill loses at most.
QUERIES_PER_SHARD = 512

Shard = Mapping[str, str]
"""Query texts by id."""


class Search:
    """A first stage that looks its shards up in files."""

    def __init__(
        self, first_stage: FirstStage, doc_ids: Sequence[str], depth: int, folder: Path, made_from: str
    ) -> None:
        """Nothing is searched yet.

        Args:
            first_stage: the one that will be deployed.
            doc_ids: by row.
            depth: candidates per query.
            folder: where the files lie.
            made_from: a digest of the first stage; files of another one are never read.
        """
        self.first_stage, self.doc_ids, self.depth = first_stage, doc_ids, depth
        self.folder, self.made_from = folder, made_from

    def run(self, shard: Shard) -> Run:
        """The candidates of a shard's queries."""
        path = self.folder / f"{fingerprint(self.made_from, self.depth, list(shard.items()))[:32]}.arrow"
        if not path.is_file():
            write_run(path, search_run(self.first_stage, self.doc_ids, shard, self.depth))
        return read_run(path)


def cut(queries: Mapping[str, str]) -> list[Shard]:
    """Queries by shard, in their order."""
    ids = list(queries)
    starts = range(0, len(ids), QUERIES_PER_SHARD)
    return [{query_id: queries[query_id] for query_id in ids[start : start + QUERIES_PER_SHARD]} for start in starts]
