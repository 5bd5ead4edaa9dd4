"""Hidden documents: the lists are those of a corpus without them, before and after fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from secondstage.collection import Collection
from secondstage.config import Bm25Config
from secondstage.firststage import FirstStage, Hits, search_run
from secondstage.firststage.bm25 import Bm25
from secondstage.firststage.hybrid import Fusion, Hybrid
from secondstage.firststage.without import search_without

IDS = [f"d{i}" for i in range(12)]
QUERIES = {"q0": "0", "q1": "1", "q2": "2"}
HIDDEN = {"q0": ["d3"], "q1": ["d0", "d7", "d11", "elsewhere"]}


class Fixed:
    """Scores that are drawn for each query and row; rows that it lacks are not found."""

    def __init__(self, seed: int, lacks: Mapping[str, Sequence[str]] | None = None) -> None:
        self.scores = np.random.default_rng(seed).normal(size=(len(QUERIES), len(IDS))).astype(np.float32)
        self.lacks = {query[1:]: {IDS.index(d) for d in ids if d in IDS} for query, ids in (lacks or {}).items()}

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        return [self._one(query, depth) for query in queries]

    def _one(self, query: str, depth: int) -> Hits:
        scores = self.scores[int(query)]
        rows = [row for row in np.argsort(-scores).tolist() if row not in self.lacks.get(query, set())][:depth]
        return Hits(np.array(rows, np.int64), scores[rows], ("x",) * len(rows))

    def save(self, folder: Path) -> None:
        raise AssertionError

    def parts(self) -> Mapping[str, FirstStage]:
        return {"x": self}


def hybrid(fusion: Fusion, each: int, lacks: Mapping[str, Sequence[str]] | None = None) -> Hybrid:
    return Hybrid({"bm25": Fixed(1, lacks), "dense": Fixed(2, lacks)}, fusion, {"bm25": 0.6, "dense": 0.4}, each)


@pytest.mark.parametrize("depth", [1, 5, 9, 12])
@pytest.mark.parametrize("each", [4, 12])
@pytest.mark.parametrize("fusion", ["zscore", "minmax", "rrf"])
def test_a_hybrid_fuses_what_its_parts_find_without_them(fusion: Fusion, each: int, depth: int) -> None:
    found = search_without(hybrid(fusion, each), IDS, QUERIES, HIDDEN, depth)
    expected = search_run(hybrid(fusion, each, HIDDEN), IDS, QUERIES, depth)
    assert list(found) == list(expected) == list(QUERIES)
    for query_id, ranking in expected.items():
        assert found[query_id].doc_ids == ranking.doc_ids
        assert found[query_id].scores.tolist() == ranking.scores.tolist()
        assert found[query_id].retrievers == ranking.retrievers


def test_taken_out_of_the_fused_list_they_would_leave_their_mark() -> None:
    """This is why the parts are searched: the mean and the spread of a list are not those without its best."""
    found = search_without(hybrid("zscore", 12), IDS, QUERIES, HIDDEN, 12)["q1"]
    whole = search_run(hybrid("zscore", 12), IDS, QUERIES, 12)["q1"]
    kept = [doc_id for doc_id in whole.doc_ids if doc_id not in HIDDEN["q1"]]
    assert set(found.doc_ids) == set(kept)
    assert np.abs(found.scores_of(kept) - whole.scores_of(kept)).max() > 0.05


class Wrapped:
    """A first stage with a hybrid inside, as Milvus is."""

    def __init__(self, inner: Hybrid) -> None:
        self.inner = inner

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        return self.inner.search(queries, depth)

    def save(self, folder: Path) -> None:
        raise AssertionError

    def parts(self) -> Mapping[str, FirstStage]:
        return self.inner.parts()

    def with_parts(self, parts: Mapping[str, FirstStage]) -> FirstStage:
        return self.inner.with_parts(parts)


def test_whatever_fuses_is_searched_so_not_a_hybrid_alone() -> None:
    found = search_without(Wrapped(hybrid("zscore", 12)), IDS, QUERIES, HIDDEN, 9)
    expected = search_run(hybrid("zscore", 12, HIDDEN), IDS, QUERIES, 9)
    for query_id, ranking in expected.items():
        assert found[query_id].doc_ids == ranking.doc_ids
        assert found[query_id].scores.tolist() == ranking.scores.tolist()


def test_a_list_is_as_deep_as_asked_for_all_the_same(collection: Collection) -> None:
    bm25 = Bm25.build(Bm25Config(), collection.documents)
    queries = {"q-bread-3": collection.queries["q-bread-3"]}
    whole = search_run(bm25, collection.documents.ids, queries, 6)["q-bread-3"]
    found = search_without(bm25, collection.documents.ids, queries, {"q-bread-3": whole.doc_ids[:2]}, 4)["q-bread-3"]
    assert found.doc_ids == whole.doc_ids[2:]
    assert found.scores.tolist() == pytest.approx(whole.scores[2:].tolist())


def test_nothing_hidden_changes_nothing_and_all_hidden_leaves_nothing() -> None:
    first_stage = hybrid("zscore", 12)
    same = search_without(first_stage, IDS, QUERIES, {}, 5)
    assert {q: r.doc_ids for q, r in same.items()} == {
        q: r.doc_ids for q, r in search_run(first_stage, IDS, QUERIES, 5).items()
    }
    assert search_without(Fixed(1), IDS, QUERIES, {"q2": IDS}, 5)["q2"].doc_ids == ()
    assert len(search_without(first_stage, IDS, {}, {}, 5)) == 0
