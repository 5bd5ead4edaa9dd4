"""Indices of vectors: what is chosen, what is found, and that it is the same each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage.config import DenseConfig
from secondstage.embeddings import Embeddings
from secondstage.encoder import Vectors
from secondstage.firststage.vectorkinds import size_gib
from secondstage.firststage.vectors import TARGET, VectorIndex, exact

KINDS = ["flat", "hnsw", "ivf", "pq"]
COUNT, DIMENSION = 2500, 16


def config(index: Any, gib: float = 4.0) -> DenseConfig:
    return DenseConfig(index=index, memory_gib=gib)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    """Clustered, as embeddings are; the last 20 are copies of the first."""
    draw = np.random.default_rng(0)
    found = draw.normal(size=(50, DIMENSION))[draw.integers(50, size=COUNT)] + 0.5 * draw.normal(
        size=(COUNT, DIMENSION)
    )
    found[-20:] = found[0]
    unit: Vectors = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture(scope="module")
def corpus(vectors: Vectors) -> Embeddings:
    return Embeddings([vectors[:1000], vectors[1000:]], DIMENSION, [1000, COUNT - 1000])


@pytest.fixture(scope="module")
def built(corpus: Embeddings) -> dict[str, VectorIndex]:
    return {kind: VectorIndex.build(config(kind), corpus) for kind in KINDS}


def test_an_index_beyond_its_budget_says_so(corpus: Embeddings, capsys: pytest.CaptureFixture[str]) -> None:
    VectorIndex.build(config("flat"), corpus)
    assert "memory_gib" not in capsys.readouterr().err
    VectorIndex.build(config("flat", 1e-5), corpus)
    assert "flat takes 0.0" in capsys.readouterr().err


def test_exact_search_is_brute_force(vectors: Vectors, corpus: Embeddings) -> None:
    cosines = vectors[5:9] @ vectors.T
    for rows, expected in zip(exact(vectors[5:9], corpus, 30), cosines, strict=True):
        assert expected[rows] == pytest.approx(-np.sort(-expected)[:30], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest_are_found_with_their_cosines(built: dict[str, VectorIndex], vectors: Vectors, kind: str) -> None:
    queries = np.roll(vectors[:40], 1, axis=1)
    queries = (queries + vectors[:40]) / np.linalg.norm(queries + vectors[:40], axis=1, keepdims=True)
    cosines = queries @ vectors.T
    shares = []
    for (rows, scores), expected in zip(built[kind].search(queries, 50), cosines, strict=True):
        assert len(rows) == len(set(rows.tolist())) == 50
        assert scores == pytest.approx(expected[rows], abs=1e-6 if kind != "pq" else 1e-3)
        assert (np.diff(scores) <= 0).all()
        shares.append(np.mean(expected[rows] >= -np.sort(-expected)[49] - 1e-6))
    assert np.mean(shares) >= (1 if kind == "flat" else 0.9)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_come_in_the_order_of_the_rows(built: dict[str, VectorIndex], vectors: Vectors, kind: str) -> None:
    ((rows, _),) = built[kind].search(vectors[:1], 21)
    assert rows.tolist() == [0, *range(COUNT - 20, COUNT)]


@pytest.mark.parametrize("kind", ["flat", "ivf", "pq"])
def test_depth_beyond_the_corpus_gives_all_of_it(built: dict[str, VectorIndex], vectors: Vectors, kind: str) -> None:
    for rows, _ in built[kind].search(vectors[:2], COUNT + 7):
        assert sorted(rows.tolist()) == list(range(COUNT))


def test_a_graph_gives_what_can_be_reached_and_no_more(built: dict[str, VectorIndex], vectors: Vectors) -> None:
    ((rows, scores),) = built["hnsw"].search(vectors[:1], COUNT + 7)
    assert len(set(rows.tolist())) == len(rows) == len(scores) > 0.9 * COUNT
    assert rows.min() >= 0


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "pq"])
def test_the_recall_is_measured_and_reached(built: dict[str, VectorIndex], kind: str) -> None:
    report = built[kind].report
    assert report["kind"] == kind
    assert TARGET <= report["recall"] <= 1
    assert report["probes"] == 200
    assert report["visits"] >= 1


def test_the_recall_is_said(corpus: Embeddings, capsys: pytest.CaptureFixture[str]) -> None:
    VectorIndex.build(config("ivf"), corpus)
    assert "recall@100 against exact search" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_finds_the_same(
    built: dict[str, VectorIndex], vectors: Vectors, tmp_path: Path, kind: str
) -> None:
    built[kind].save(tmp_path)
    loaded = VectorIndex.load(tmp_path)
    assert loaded.report == built[kind].report
    found = zip(built[kind].search(vectors[:30], 25), loaded.search(vectors[:30], 25), strict=True)
    assert all(np.array_equal(a, b) and np.array_equal(s, t) for (a, s), (b, t) in found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_vectors_give_the_same_files(corpus: Embeddings, tmp_path: Path, kind: str) -> None:
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        VectorIndex.build(config(kind), corpus).save(tmp_path / name)
        files.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert files[0] == files[1]


def test_a_compressed_index_keeps_to_its_budget(corpus: Embeddings) -> None:
    whole = size_gib("flat", COUNT, DIMENSION)
    report = VectorIndex.build(config("pq", whole / 2), corpus).report
    assert report["gib"] <= whole / 2 + 1e-3
    assert report["recall"] >= 0.9


@pytest.mark.parametrize("kind", ["auto", *KINDS])
@pytest.mark.parametrize("count", [1, 2, 40])
def test_a_tiny_corpus_is_searched_whole(
    vectors: Vectors, kind: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    index = VectorIndex.build(config(kind), Embeddings([vectors[:count]], DIMENSION, [count]))
    ((rows, _),) = index.search(vectors[:1], 50)
    assert sorted(rows.tolist()) == list(range(count))
    assert ("too few to train" in capsys.readouterr().err) == (kind in ("ivf", "pq"))
