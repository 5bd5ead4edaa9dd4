"""The choice of checkpoint on dev."""

from __future__ import annotations

import pytest

from secondstage.collection import Collection, Documents
from secondstage.measures import evaluate, mean
from secondstage.reranker import Reranker
from secondstage.run import Run, rank
from secondstage.train.selection import MEASURE, Selection


class Fake(Reranker):
    """Puts relevant documents first (+1) or last (−1), or leaves all as it is (0)."""

    def __init__(self, collection: Collection, sign: int) -> None:
        self.collection, self.sign = collection, sign

    def rerank(self, run: Run, queries: object, documents: Documents, *, label: str | None = None) -> Run:
        assert queries is self.collection.queries
        assert documents is self.collection.documents
        qrels = self.collection.qrels["dev"]
        return run.rescored("reranked", [self.sign * qrels[q].get(doc_id, 0) for q, doc_id in run.pairs()])


@pytest.fixture
def run(collection: Collection) -> Run:
    """Each dev query's own document is at rank 3 of 6."""
    lists = {}
    for query_id in collection.qrels["dev"]:
        own = query_id.removeprefix("q-")
        others = [doc_id for doc_id in collection.documents.ids if doc_id != own]
        lists[query_id] = rank([*others[:2], own, *others[2:5]], [6, 5, 4, 3, 2, 1], ["bm25"] * 6)
    return Run("first_stage", lists)


def selection(collection: Collection, run: Run, queries: int = 100, depth: int = 30, seed: int = 13) -> Selection:
    return Selection(collection, run, queries=queries, depth=depth, seed=seed)


def test_values_are_those_of_the_reranked_lists(collection: Collection, run: Run) -> None:
    chosen = selection(collection, run)
    assert chosen.first_stage() == pytest.approx(1 / 2)  # rank 3: 1 / log2(4)
    assert chosen.value(Fake(collection, 0)) == chosen.first_stage()
    assert chosen.value(Fake(collection, 1)) == 1
    assert chosen.value(Fake(collection, -1)) == pytest.approx(0.3562071871)  # rank 6: 1 / log2(7)
    assert chosen.first_stage() == mean(evaluate(run, collection.qrels["dev"], [MEASURE])[MEASURE])


def test_lists_are_cut_to_the_depth(collection: Collection, run: Run) -> None:
    assert selection(collection, run, depth=3).value(Fake(collection, 1)) == 1
    cut = selection(collection, run, depth=2)
    assert {len(ranking.doc_ids) for ranking in cut.run.values()} == {2}
    assert cut.value(Fake(collection, 1)) == cut.first_stage() == 0


def test_queries_are_chosen_by_the_seed(collection: Collection, run: Run) -> None:
    chosen = [set(selection(collection, run, queries=5, seed=seed).run) for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    some = selection(collection, run, queries=5, seed=1)
    assert len(some.run) == 5
    assert some.qrels == {query_id: collection.qrels["dev"][query_id] for query_id in some.run}
    assert len(selection(collection, run).run) == 16


def test_the_later_of_two_equal_values_is_best(collection: Collection, run: Run) -> None:
    chosen = selection(collection, run)
    values = [0.3, 0.2, 0.3, 0.5, 0.5, 0.4]
    assert [chosen.is_best(value) for value in values] == [True, False, True, True, True, False]
    assert chosen.best == 0.5
    assert selection(collection, run).is_best(0.0)


def test_an_empty_run_chooses_nothing(collection: Collection) -> None:
    chosen = selection(collection, Run("first_stage", {}))
    assert len(chosen.run) == 0
    assert chosen.qrels == {}
