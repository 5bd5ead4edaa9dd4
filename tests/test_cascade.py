"""Cascades: who reads what, in which order it comes out, and how generators are driven."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.collection import Documents
from secondstage.errors import UserError
from secondstage.run import Run, Scores, rank
from secondstage.serve.cascade import Ask, Cascaded, Made, advance, drive, drive_many, narrowed, reranking, settled
from secondstage.serve.fuse import fuse

SIZE = 8
QUERIES = {"a": "first", "b": "second"}


class Table:
    """Scores the document `di` by the `i`-th number, whatever the query; counts its calls."""

    def __init__(self, scores: Sequence[float]) -> None:
        self.scores = list(scores)
        self.asked: list[list[tuple[str, str]]] = []

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        self.asked.append(list(pairs))
        return np.array([self.scores[int(text.split()[1])] for _, text in pairs], np.float32)


@pytest.fixture
def documents(as_documents: Callable[[Sequence[str]], Documents]) -> Documents:
    return as_documents([f"document {i}" for i in range(SIZE)])


def first_stage(*orders: Sequence[int]) -> Run:
    """Lists of documents in these orders, a point apart."""
    lists = {}
    for query_id, order in zip(QUERIES, orders, strict=False):
        lists[query_id] = rank([f"d{i}" for i in order], [10.0 - i for i in range(len(order))], ["bm25"] * len(order))
    return Run("first_stage", lists)


def read(first: Run, documents: Documents, depths: Sequence[int], tables: Sequence[Table]) -> Cascaded:
    return drive(reranking(first, QUERIES, documents, len(depths), lambda stage: depths[stage]), tables)


UP, DOWN = range(SIZE), range(SIZE - 1, -1, -1)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("depth", [1, 3, SIZE, 50])
def test_one_reranker_is_the_fusion_of_the_head(documents: Documents, weight: float, depth: int) -> None:
    first = first_stage(UP, DOWN)
    table = Table([3, 1, 4, 1, 5, 9, 2, 6])
    found = read(first, documents, [depth], [table]).runs(first, weight)
    whole = first.rescored("reranked", [table.scores[int(doc_id[1:])] for _, doc_id in first.pairs()])
    expected = fuse(first, whole, weight, depth)
    for query_id in QUERIES:
        assert found.pipeline[query_id].doc_ids == expected[query_id].doc_ids
        assert found.pipeline[query_id].scores == pytest.approx(expected[query_id].scores, abs=1e-5)
        assert (
            found.reranked[query_id].doc_ids[:depth]
            == first.top(depth)
            .rescored("reranked", [table.scores[int(doc_id[1:])] for _, doc_id in first.top(depth).pairs()])[query_id]
            .doc_ids
        )
    # One call, for the pairs of all queries.
    assert [len(pairs) for pairs in table.asked] == [2 * min(depth, SIZE)]


def test_each_reads_the_head_of_the_one_before(documents: Documents) -> None:
    first = first_stage(UP)
    small, large = Table([0, 1, 2, 3, 4, 5, 6, 7]), Table([9, 9, 5, 4, 3, 9, 9, 9])
    found = read(first, documents, [5, 3], [small, large])
    assert [[text for _, text in asked] for asked in small.asked] == [[f"document {i}" for i in range(5)]]
    # The small one's best three are 4, 3 and 2; asked for in the first stage's order.
    assert [[text for _, text in asked] for asked in large.asked] == [[f"document {i}" for i in (2, 3, 4)]]
    assert found.before["a"].doc_ids == ("d4", "d3", "d2", "d1", "d0", "d5", "d6", "d7")
    assert found.head["a"].doc_ids == ("d2", "d3", "d4")
    assert found.head["a"].scores.tolist() == [8, 7, 6]
    runs = found.runs(first, 1.0)
    # The head by the large one; below it what the small one read, in its order; below that the first stage's.
    assert runs.pipeline["a"].doc_ids == ("d2", "d3", "d4", "d1", "d0", "d5", "d6", "d7")
    assert (np.diff(runs.pipeline["a"].scores) < 0).all()
    # Without a say of the large one, the head is in the first stage's order.
    large.scores = [float(i) for i in range(SIZE)]
    assert read(first, documents, [5, 3], [small, large]).runs(first, 0.0).pipeline["a"].doc_ids[:3] == (
        "d2",
        "d3",
        "d4",
    )
    assert read(first, documents, [5, 3], [small, large]).runs(first, 1.0).pipeline["a"].doc_ids[:3] == (
        "d4",
        "d3",
        "d2",
    )


@given(st.permutations(range(SIZE)), st.integers(1, SIZE), st.integers(1, SIZE))
def test_the_same_model_twice_ranks_its_head_as_once(order: list[int], depth: int, deeper: int) -> None:
    """With a weight of 1: the second look changes nothing."""
    documents = _Texts()
    deeper = max(depth, deeper)
    first, table = first_stage(order), Table([3, 1, 4, 1, 5, 9, 2, 6])
    once = read(first, documents, [deeper], [table]).runs(first, 1.0)  # type: ignore[arg-type]
    twice = read(first, documents, [deeper, depth], [table, table]).runs(first, 1.0)  # type: ignore[arg-type]
    assert once.pipeline["a"].doc_ids == twice.pipeline["a"].doc_ids


class _Texts:
    def contents(self, doc_ids: Sequence[str]) -> list[str]:
        return [f"document {doc_id[1:]}" for doc_id in doc_ids]


def test_a_depth_of_0_ends_a_cascade(documents: Documents) -> None:
    first, small, large = first_stage(UP), Table(range(SIZE)), Table(range(SIZE))
    found = read(first, documents, [4, 0], [small, large])
    assert (len(small.asked), len(large.asked)) == (1, 0)
    assert found.head["a"].doc_ids == ()
    assert found.runs(first, 1.0).pipeline["a"].doc_ids == ("d3", "d2", "d1", "d0", "d4", "d5", "d6", "d7")
    found = read(first, documents, [0, 4], [small, large])
    assert found.runs(first, 1.0).pipeline["a"].doc_ids == first["a"].doc_ids


def test_nobody_is_asked_about_nothing(documents: Documents) -> None:
    table = Table([])
    found = read(first_stage((), ()), documents, [3, 2], [table, table])
    assert table.asked == []
    assert [len(ranking.doc_ids) for ranking in found.reranked.values()] == [0, 0]


def test_a_score_that_is_no_number_is_refused(documents: Documents) -> None:
    with pytest.raises(UserError, match="1 of 2 scores are not finite"):
        read(first_stage(UP), documents, [2], [Table([float("nan"), 1.0])])


def test_narrowed_and_settled() -> None:
    first, before = first_stage(UP), first_stage(DOWN)
    head = narrowed(first, before, 3)
    assert head["a"].doc_ids == ("d5", "d6", "d7")
    assert head["a"].scores.tolist() == [5, 4, 3]
    joined = settled(before, head, "joined")["a"]
    assert joined.doc_ids == ("d5", "d6", "d7", "d4", "d3", "d2", "d1", "d0")
    assert joined.scores.tolist() == [5, 4, 3, 2, 1, 0, -1, -2]


def test_several_are_driven_side_by_side(documents: Documents) -> None:
    """Those at the same reranker share a call, however many each has before it."""
    depths = {"a": (4, 2), "b": (3, 0), "c": (0, 0)}
    first, tables = first_stage(UP), [Table(range(SIZE)), Table(range(SIZE))]

    def asking(name: str):  # type: ignore[no-untyped-def]
        return reranking(first, QUERIES, documents, 2, lambda stage: depths[name][stage])

    together = drive_many([asking(name) for name in depths], tables)
    assert [[len(pairs) for pairs in table.asked] for table in tables] == [[7], [2]]
    for name, found in zip(depths, together, strict=True):
        alone = drive(asking(name), tables)
        assert found.runs(first, 0.5).pipeline["a"].doc_ids == alone.runs(first, 0.5).pipeline["a"].doc_ids
    assert drive_many([], tables) == []


def test_a_generator_is_advanced_without_stop_iteration(documents: Documents) -> None:
    asking = reranking(first_stage(UP), QUERIES, documents, 1, lambda _: 2)
    ask = advance(asking, None)
    assert ask == Ask(0, [("first", "document 0"), ("first", "document 1")])
    made = advance(asking, np.array([1, 2], np.float32))
    assert isinstance(made, Made)
    assert made.value.reranked["a"].doc_ids == ("d1", "d0")
