"""Dense retrieval against brute force."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from secondstage import encoder as encoder_module
from secondstage.collection import Collection, Documents
from secondstage.config import DenseConfig, FirstStageConfig
from secondstage.errors import UserError
from secondstage.files import folder_digests
from secondstage.firststage import Hits, build, load, save
from secondstage.firststage.dense import Dense

AsDocuments = Callable[[Sequence[str]], Documents]
QUERIES = ["flour of the bread", "water of the river", "key", "king queen rook of the chess board"]


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Single precision on any processor."""
    monkeypatch.setattr(encoder_module, "resolve", lambda _: "fp32")


@pytest.fixture(scope="module")
def cosines(collection: Collection, tiny_model: Path) -> npt.NDArray[np.float32]:
    """`[queries, documents]`, straight from sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(tiny_model), device="cpu")

    def unit(texts: list[str]) -> Any:
        return encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False)

    found: npt.NDArray[np.float32] = unit(QUERIES) @ unit([document.content for document in collection.documents]).T
    return found


def same(one: list[Hits], other: list[Hits]) -> bool:
    return all(
        a.rows.tolist() == b.rows.tolist() and np.allclose(a.scores, b.scores, atol=1e-6)
        for a, b in zip(one, other, strict=True)
    )


def scores_by_row(hits: Hits) -> list[float]:
    """Scores in the order of the corpus."""
    scores: list[float] = hits.scores[np.argsort(hits.rows)].tolist()
    return scores


@pytest.mark.usefixtures("exact")
def test_hits_are_those_of_brute_force(
    collection: Collection, tiny_model: Path, cosines: npt.NDArray[np.float32]
) -> None:
    for hits, expected in zip(
        Dense.build(DenseConfig(model=str(tiny_model)), collection.documents).search(QUERIES, 10), cosines, strict=True
    ):
        assert hits.rows.tolist() == np.argsort(-expected, kind="stable")[:10].tolist()
        assert hits.scores == pytest.approx(expected[hits.rows], abs=1e-5)
        assert hits.retrievers == ("dense",) * 10


def test_in_half_precision_they_are_close(
    collection: Collection, tiny_model: Path, cosines: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "resolve", lambda _: "bf16")
    dense = Dense.build(DenseConfig(model=str(tiny_model)), collection.documents)
    for hits, expected in zip(dense.search(QUERIES, 64), cosines, strict=True):
        assert np.abs(hits.scores - expected[hits.rows]).max() < 0.02
        assert hits.scores.max() <= 1 + 1e-6
        assert not np.array_equal(hits.scores, expected[hits.rows])


@pytest.mark.usefixtures("exact")
def test_depth_beyond_the_corpus_gives_all_of_it(as_documents: AsDocuments, tiny_model: Path) -> None:
    dense = Dense.build(DenseConfig(model=str(tiny_model)), as_documents(["snow frost", "rail ticket", "king queen"]))
    (hits,) = dense.search(["snow"], 50)
    assert sorted(hits.rows.tolist()) == [0, 1, 2]
    assert len(hits.scores) == len(hits.retrievers) == 3
    assert [len(h.rows) for h in dense.search(["snow", "rail"], 2)] == [2, 2]
    assert dense.search([], 2) == []


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("depth", [1, 3, 10, 40])
def test_equal_documents_come_in_corpus_order(as_documents: AsDocuments, tiny_model: Path, depth: int) -> None:
    # Every fourth document is the query; all others tie.
    documents = as_documents(["snow frost" if i % 4 == 3 else "rail coach" for i in range(40)])
    (hits,) = Dense.build(DenseConfig(model=str(tiny_model)), documents).search(["snow frost"], depth)
    whole = [i for i in range(40) if i % 4 == 3] + [i for i in range(40) if i % 4 != 3]
    assert hits.rows.tolist() == whole[:depth]
    assert hits.scores[0] == pytest.approx(1, abs=1e-5)


@pytest.mark.usefixtures("exact")
def test_prompts_stand_before_the_texts(as_documents: AsDocuments, tiny_model: Path) -> None:
    texts = ["snow frost", "rail ticket", "king queen"]
    name = str(tiny_model)
    prompted = Dense.build(
        DenseConfig(model=name, document_prompt="bread: ", query_prompt="bake "), as_documents(texts)
    )
    written = Dense.build(DenseConfig(model=name), as_documents([f"bread: {text}" for text in texts]))
    bare = Dense.build(DenseConfig(model=name), as_documents(texts))
    assert same(prompted.search(["snow"], 3), written.search(["bake snow"], 3))
    for other in (written.search(["snow"], 3), bare.search(["bake snow"], 3)):
        assert not np.allclose(scores_by_row(prompted.search(["snow"], 3)[0]), scores_by_row(other[0]), atol=1e-5)


@pytest.mark.usefixtures("exact")
def test_only_max_length_tokens_are_read(as_documents: AsDocuments, tiny_model: Path, tmp_path: Path) -> None:
    start = "flour yeast oven dough crust knead"  # with [CLS] and [SEP] eight tokens
    documents = as_documents([f"{start} loaf bake", f"{start} snow frost ice", start])
    config = DenseConfig(model=str(tiny_model), max_length=8)
    cut = Dense.build(config, documents)
    (short,) = cut.search(["snow"], 3)
    assert np.ptp(short.scores) < 1e-6
    (whole,) = Dense.build(DenseConfig(model=str(tiny_model)), documents).search(["snow"], 3)
    assert np.ptp(whole.scores) > 1e-4
    # A loaded one reads queries under the same limit.
    cut.save(tmp_path)
    loaded = Dense.load(config, tmp_path)
    assert same(loaded.search([f"{start} key"], 3), loaded.search([f"{start} rail ticket"], 3))


@pytest.mark.usefixtures("exact")
def test_max_length_ends_where_the_model_does(as_documents: AsDocuments, tiny_model: Path) -> None:
    documents = as_documents(["snow " * 300, "rail"])
    usual, beyond = (Dense.build(DenseConfig(model=str(tiny_model), max_length=n), documents) for n in (64, 256))
    assert same(beyond.search(["snow"], 2), usual.search(["snow"], 2))


def test_what_was_saved_gives_the_same_hits(collection: Collection, tiny_model: Path, tmp_path: Path) -> None:
    config = DenseConfig(model=str(tiny_model), query_prompt="the ", max_length=24)
    dense = Dense.build(config, collection.documents)
    dense.save(tmp_path)
    assert same(Dense.load(config, tmp_path).search(QUERIES, 12), dense.search(QUERIES, 12))


def test_it_opens_from_a_copied_folder_after_the_model_is_gone(
    collection: Collection, tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    config = FirstStageConfig(kind="dense", dense=DenseConfig(model=str(model)))
    built = build(config, collection.documents)
    (tmp_path / "index").mkdir()
    save(built, config, tmp_path / "index")
    hits = built.search(QUERIES, 5)
    shutil.copytree(tmp_path / "index", tmp_path / "elsewhere" / "index")
    shutil.rmtree(tmp_path / "index")
    shutil.rmtree(model)
    assert same(load(tmp_path / "elsewhere" / "index").search(QUERIES, 5), hits)


def test_a_missing_model_is_named(collection: Collection, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        Dense.build(DenseConfig(model=str(tmp_path / "nowhere")), collection.documents)


def test_documents_are_encoded_once_for_a_cache(
    collection: Collection, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DenseConfig(model=str(tiny_model), query_prompt="the ")
    first = Dense.build(config, collection.documents, cache=tmp_path)
    hits = first.search(QUERIES, 9)
    assert len(list(tmp_path.iterdir())) == 1

    def encode(*_: object) -> None:
        raise AssertionError("encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(encoder_module.Encoder, "encode", encode)
        again = Dense.build(config, collection.documents, cache=tmp_path)
    assert same(again.search(QUERIES, 9), hits)


@pytest.mark.parametrize("index", ["hnsw", "ivf", "pq"])
def test_every_index_is_saved_and_opened(collection: Collection, tiny_model: Path, tmp_path: Path, index: Any) -> None:
    config = DenseConfig(model=str(tiny_model), index=index)
    dense = Dense.build(config, collection.documents)
    dense.save(tmp_path)
    hits = Dense.load(config, tmp_path).search(QUERIES, 100)
    assert same(hits, dense.search(QUERIES, 100))
    assert [len(hit.rows) for hit in hits] == [64] * len(QUERIES)


@pytest.mark.usefixtures("exact")
def test_the_folder_is_the_same_whether_the_vectors_were_there_or_not(
    collection: Collection, tiny_model: Path, tmp_path: Path
) -> None:
    saved = []
    for name in ("cold", "warm"):
        dense = Dense.build(DenseConfig(model=str(tiny_model)), collection.documents, cache=tmp_path / "cache")
        (tmp_path / name).mkdir()
        dense.save(tmp_path / name)
        saved.append(folder_digests(tmp_path / name))
    assert saved[0] == saved[1]
