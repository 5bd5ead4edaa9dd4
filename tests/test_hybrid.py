"""Fusing retrievers: closed forms, invariances, and what each edge gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.collection import Collection
from secondstage.config import DenseConfig, FirstStageConfig
from secondstage.firststage import FirstStage, Hits, build, load, save
from secondstage.firststage.hybrid import Fusion, Hybrid, fuse, scale

FUSIONS: tuple[Fusion, ...] = get_args(Fusion)
HALF = {"bm25": 0.5, "dense": 0.5}


def hits(name: str, found: Mapping[int, float]) -> Hits:
    """A list of one retriever, best first."""
    order = sorted(found, key=lambda row: -found[row])
    scores = np.array([found[row] for row in order], np.float32)
    return Hits(np.array(order, np.int64), scores, (name,) * len(order))


def both(bm25: Mapping[int, float], dense: Mapping[int, float]) -> dict[str, Hits]:
    return {"bm25": hits("bm25", bm25), "dense": hits("dense", dense)}


def by_row(found: Hits) -> dict[int, float]:
    return dict(zip(found.rows.tolist(), found.scores.tolist(), strict=True))


def test_minmax_is_arithmetic() -> None:
    found = fuse(both({1: 12.0, 2: 6.0, 3: 4.0}, {2: 0.9, 4: 0.4}), {"bm25": 0.25, "dense": 0.75}, "minmax", 10)
    expected = {2: 0.25 * (6 - 4) / (12 - 4) + 0.75 * 1, 1: 0.25 * 1 + 0.75 * 0, 3: 0.0, 4: 0.0}
    assert found.rows.tolist() == [2, 1, 3, 4]
    assert by_row(found) == pytest.approx(expected)


def test_zscore_is_arithmetic() -> None:
    found = fuse(both({1: 3.0, 2: 2.0, 3: 1.0}, {2: 0.5, 4: 0.1}), {"bm25": 0.25, "dense": 0.75}, "zscore", 10)
    unit = 1 / (2 / 3) ** 0.5  # the deviation of 3, 2, 1 is √(2/3), that of two values half their distance
    expected = {1: 0.25 * unit - 0.75, 2: 0.25 * 0 + 0.75, 3: -0.25 * unit - 0.75, 4: -0.25 * unit - 0.75}
    assert found.rows.tolist() == [2, 1, 3, 4]
    assert by_row(found) == pytest.approx(expected)


def test_rrf_is_arithmetic() -> None:
    found = fuse(both({1: 9.0, 2: 8.0, 3: 7.0}, {2: 0.9, 4: 0.8}), {"bm25": 0.4, "dense": 0.6}, "rrf", 10)
    expected = {2: 0.4 / 62 + 0.6 / 61, 4: 0.6 / 62, 1: 0.4 / 61, 3: 0.4 / 63}
    assert found.rows.tolist() == [2, 4, 1, 3]
    assert by_row(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_who_found_a_document_is_kept(fusion: Fusion) -> None:
    found = fuse(both({1: 3, 2: 2}, {2: 0.5, 4: 0.1}), HALF, fusion, 10)
    assert dict(zip(found.rows.tolist(), found.retrievers, strict=True)) == {1: "bm25", 2: "bm25+dense", 4: "dense"}


scores = st.dictionaries(st.integers(0, 15), st.integers(-50, 50), min_size=1)


@pytest.mark.parametrize("fusion", ["minmax", "zscore"])
@given(bm25=scores, dense=scores, factor=st.sampled_from([0.25, 2, 8]), shift=st.integers(-100, 100))
def test_a_change_of_one_retrievers_scale_changes_nothing(
    fusion: Fusion, bm25: dict[int, float], dense: dict[int, float], factor: float, shift: int
) -> None:
    before = fuse(both(bm25, dense), HALF, fusion, 20)
    scaled = {row: factor * score + shift for row, score in bm25.items()}
    after = fuse(both(scaled, dense), HALF, fusion, 20)
    assert by_row(after) == pytest.approx(by_row(before), abs=1e-5)
    names = (dict(zip(found.rows.tolist(), found.retrievers, strict=True)) for found in (before, after))
    assert next(names) == next(names)


@given(bm25=scores, dense=scores)
def test_rrf_sees_ranks_only(bm25: dict[int, float], dense: dict[int, float]) -> None:
    before = fuse(both(bm25, dense), HALF, "rrf", 20)
    cubed = {row: score**3 for row, score in bm25.items()}
    after = fuse(both(cubed, dense), HALF, "rrf", 20)
    assert after.rows.tolist() == before.rows.tolist()
    assert after.scores.tobytes() == before.scores.tobytes()


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(("weight", "alone"), [(0.0, [7, 3, 5]), (1.0, [5, 1, 2])])
def test_a_weight_of_0_or_1_gives_the_order_of_one_retriever(fusion: Fusion, weight: float, alone: list[int]) -> None:
    lists = both({7: 9.0, 3: 5.0, 5: 1.0}, {5: 0.9, 1: 0.5, 2: 0.1})
    found = fuse(lists, {"bm25": 1 - weight, "dense": weight}, fusion, 10)
    assert [row for row in found.rows.tolist() if row in alone] == alone
    assert found.rows.tolist()[:2] == alone[:2]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_one_empty_list_leaves_the_other_as_it_is(fusion: Fusion) -> None:
    found = fuse(both({}, {5: 0.9, 1: 0.5, 2: 0.1}), HALF, fusion, 10)
    assert found.rows.tolist() == [5, 1, 2]
    assert found.retrievers == ("dense",) * 3


@pytest.mark.parametrize("fusion", FUSIONS)
def test_two_empty_lists_give_an_empty_one(fusion: Fusion) -> None:
    found = fuse(both({}, {}), HALF, fusion, 10)
    assert (found.rows.tolist(), found.scores.tolist(), found.retrievers) == ([], [], ())


@pytest.mark.parametrize("fusion", ["minmax", "zscore"])
def test_equal_scores_count_as_found_and_nothing_more(fusion: Fusion) -> None:
    found = fuse(both({1: 4.0, 2: 4.0, 3: 4.0}, {3: 0.9, 4: 0.1}), HALF, fusion, 10)
    low = 0.0 if fusion == "minmax" else -1.0
    expected = {1: 0.5 + 0.5 * low, 2: 0.5 + 0.5 * low, 3: 0.5 + 0.5, 4: 0.5 * low}
    assert found.rows.tolist() == [3, 1, 2, 4]
    assert by_row(found) == pytest.approx(expected)


@pytest.mark.parametrize("fusion", ["minmax", "zscore"])
@given(value=st.floats(-1e6, 1e6, width=32), count=st.integers(1, 300))
def test_rounding_does_not_make_equal_scores_differ(fusion: Fusion, value: float, count: int) -> None:
    scaled, missing = scale(np.full(count, value, np.float32), fusion)
    assert (scaled.tolist(), missing) == ([1.0] * count, 0.0)


def test_ties_are_in_corpus_order_and_depth_cuts_after_them() -> None:
    lists = both({9: 2.0, 4: 1.0}, {4: 2.0, 9: 1.0})
    for fusion in FUSIONS:
        assert fuse(lists, HALF, fusion, 10).rows.tolist() == [4, 9]
        assert fuse(lists, HALF, fusion, 1).rows.tolist() == [4]


class Retriever:
    """Finds the first documents of the corpus, from best to worst, and remembers how deep it was asked."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size, self.asked = name, size, 0

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        self.asked = depth
        found = hits(self.name, {row: -float(row) for row in range(min(depth, self.size))})
        return [found for _ in queries]

    def save(self, folder: Path) -> None:
        (folder / self.name).write_text("saved")

    def parts(self) -> Mapping[str, FirstStage]:
        return {self.name: self}


@pytest.mark.parametrize(("depth", "asked"), [(5, 30), (30, 30), (40, 40)])
def test_each_retriever_is_asked_for_the_configured_depth_or_more(depth: int, asked: int) -> None:
    bm25, dense = Retriever("bm25", 100), Retriever("dense", 100)
    hybrid = Hybrid({"bm25": bm25, "dense": dense}, "zscore", HALF, 30)
    found = hybrid.search(["a", "b"], depth)
    assert [h.rows.tolist() for h in found] == [list(range(depth))] * 2
    assert (bm25.asked, dense.asked) == (asked, asked)
    assert hybrid.parts() == {"bm25": bm25, "dense": dense}
    assert hybrid.search([], depth) == []


def test_the_shares_decide_whose_order_it_is() -> None:
    class Backwards(Retriever):
        def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
            return [hits(self.name, {row: float(row) for row in range(self.size)}) for _ in queries]

    retrievers: dict[str, FirstStage] = {"bm25": Retriever("bm25", 5), "dense": Backwards("dense", 5)}
    shares = [{"bm25": 1 - dense, "dense": dense} for dense in (0.4, 0.6)]
    assert Hybrid(retrievers, "zscore", shares[0], 5).search(["a"], 5)[0].rows.tolist() == [0, 1, 2, 3, 4]
    assert Hybrid(retrievers, "zscore", shares[1], 5).search(["a"], 5)[0].rows.tolist() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_was_saved_gives_the_same_hits(
    fusion: Fusion, collection: Collection, tiny_model: Path, tmp_path: Path
) -> None:
    dense = DenseConfig(model=str(tiny_model))
    config = FirstStageConfig(kind="hybrid", dense=dense, fusion=fusion, weight=0.3, depth=12)
    built = build(config, collection.documents)
    save(built, config, tmp_path)
    queries = ["water of the river", "king", "unknown"]
    for before, after in zip(built.search(queries, 15), load(tmp_path).search(queries, 15), strict=True):
        assert len(before.rows) == 15
        assert after.rows.tolist() == before.rows.tolist()
        assert after.scores == pytest.approx(before.scores, abs=1e-6)
        assert after.retrievers == before.retrievers


def test_a_hybrid_is_the_fusion_of_its_parts(collection: Collection, tiny_model: Path) -> None:
    config = FirstStageConfig(kind="hybrid", dense=DenseConfig(model=str(tiny_model)), weight=0.3, depth=12)
    hybrid = build(config, collection.documents)
    query = "pedal of the piano"
    lists = {name: part.search([query], 12)[0] for name, part in hybrid.parts().items()}
    expected = fuse(lists, {"bm25": 0.7, "dense": 0.3}, "zscore", 8)
    (found,) = hybrid.search([query], 8)
    assert list(lists) == ["bm25", "dense"]
    assert by_row(found) == pytest.approx(by_row(expected))
    assert found.retrievers == expected.retrievers
