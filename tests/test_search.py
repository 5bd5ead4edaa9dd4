"""Candidates kept in files: the same as searched, searched once, never those of another first stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from secondstage.firststage import Hits, search_run
from secondstage.mine.search import QUERIES_PER_SHARD, Search, cut

DOC_IDS = ["x", "y", "z"]


class Counting:
    """Finds the documents whose number is the query's length, and the next ones."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        self.asked.append(list(queries))
        rows = [np.array([(len(query) + i) % 3 for i in range(min(depth, 3))]) for query in queries]
        return [Hits(r, np.arange(3, 0, -1, dtype=np.float32)[: len(r)], ("bm25+dense",) * len(r)) for r in rows]

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    def parts(self) -> dict[str, Counting]:
        return {"counting": self}


SHARD = {"q1": "one", "q2": "four", "q3": "x"}


def test_what_is_kept_is_what_was_searched(tmp_path: Path) -> None:
    stage = Counting()
    expected = search_run(stage, DOC_IDS, SHARD, 2)
    for _ in range(2):
        run = Search(stage, DOC_IDS, 2, tmp_path, "made").run(SHARD)
        assert (run.name, list(run)) == (expected.name, list(expected))
        for query_id in SHARD:
            assert run[query_id].doc_ids == expected[query_id].doc_ids
            assert run[query_id].retrievers == expected[query_id].retrievers
            np.testing.assert_array_equal(run[query_id].scores, expected[query_id].scores)
    assert len(stage.asked) == 2  # once for the expectation, once for the file


@pytest.mark.parametrize(
    ("depth", "made_from", "shard"),
    [
        (1, "made", SHARD),
        (2, "another first stage", SHARD),
        (2, "made", {**SHARD, "q3": "other"}),
        (2, "made", {"q9": "one", "q2": "four", "q3": "x"}),
    ],
)
def test_anything_else_is_searched_anew(tmp_path: Path, depth: int, made_from: str, shard: dict[str, str]) -> None:
    stage = Counting()
    Search(stage, DOC_IDS, 2, tmp_path, "made").run(SHARD)
    run = Search(stage, DOC_IDS, depth, tmp_path, made_from).run(shard)
    assert len(stage.asked) == 2
    assert list(run) == list(shard)
    assert {len(ranking.doc_ids) for ranking in run.values()} == {depth}


@pytest.mark.parametrize("count", [0, 1, QUERIES_PER_SHARD, QUERIES_PER_SHARD + 1, 3 * QUERIES_PER_SHARD - 1])
def test_shards_hold_every_query_once_and_in_order(count: int) -> None:
    queries = {f"q{i}": f"text {i}" for i in range(count)}
    shards = cut(queries)
    assert [item for shard in shards for item in shard.items()] == list(queries.items())
    assert all(len(shard) == QUERIES_PER_SHARD for shard in shards[:-1])
    assert len(shards) == -(-count // QUERIES_PER_SHARD)
