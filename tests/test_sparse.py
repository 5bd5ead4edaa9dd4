"""Learned sparse retrieval against brute force, with a SPLADE model of random weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from secondstage import embeddings as embeddings_module
from secondstage.collection import Collection, Documents
from secondstage.config import DenseConfig, FirstStageConfig, SparseConfig
from secondstage.errors import UserError
from secondstage.files import folder_digests
from secondstage.firststage import Hits, build, load, made_from, save, share
from secondstage.firststage import sparse as sparse_module
from secondstage.firststage.hybrid import fuse
from secondstage.firststage.sparse import Sparse, TermEncoder
from secondstage.firststage.words import WORDS

AsDocuments = Callable[[Sequence[str]], Documents]
QUERIES = ["flour of the bread", "water of the river", "key", "king queen rook of the chess board"]


@pytest.fixture(scope="module")
def splade(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked language model of random weights as a sparse encoder; large ones, so that words weigh differently."""
    import torch
    from sentence_transformers import SparseEncoder
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    head = tmp_path_factory.mktemp("models") / "head"
    torch.manual_seed(1)
    model = BertForMaskedLM(BertConfig.from_pretrained(tiny_model))
    with torch.no_grad():
        model.cls.predictions.decoder.weight *= 20
    model.save_pretrained(head)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(head)
    folder = head.with_name("splade")
    SparseEncoder(str(head), device="cpu").save(str(folder), create_model_card=False)
    return folder


def dense_weights(model: Path, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """`[texts, terms]`, each text encoded alone."""
    from sentence_transformers import SparseEncoder

    encoder = SparseEncoder(str(model), device="cpu")
    rows = [encoder.encode(text, show_progress_bar=False, convert_to_sparse_tensor=False) for text in texts]
    return np.array([row.numpy() for row in rows], np.float64)


def same(one: list[Hits], other: list[Hits]) -> bool:
    return len(one) == len(other) and all(
        a.rows.tolist() == b.rows.tolist() and a.scores == pytest.approx(b.scores, rel=1e-5)
        for a, b in zip(one, other, strict=True)
    )


def test_hits_are_those_of_brute_force(collection: Collection, splade: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_module, "CHUNK", 10)  # six chunks and a rest
    sparse = Sparse.build(SparseConfig(model=str(splade)), collection.documents)
    contents = [document.content for document in collection.documents]
    expected = dense_weights(splade, QUERIES) @ dense_weights(splade, contents).T
    assert len(np.unique(expected)) > 200
    for hits, scores in zip(sparse.search(QUERIES, 10), expected, strict=True):
        assert hits.rows.tolist() == np.argsort(-scores, kind="stable")[:10].tolist()
        assert hits.scores == pytest.approx(scores[hits.rows], rel=1e-4)
        assert hits.retrievers == ("sparse",) * 10


class Killed(BaseException):
    pass


@pytest.fixture
def weighed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many documents each call of the model is given."""
    calls: list[int] = []
    original = TermEncoder.encode

    def counted(self: TermEncoder, texts: Sequence[str], *arguments: Any) -> Any:
        calls.append(len(texts))
        return original(self, texts, *arguments)

    monkeypatch.setattr(TermEncoder, "encode", counted)
    monkeypatch.setattr(embeddings_module, "SHARD", 20)
    return calls


def test_what_is_cached_is_not_encoded_again_and_gives_the_same_folder(
    collection: Collection, splade: Path, tmp_path: Path, weighed: list[int]
) -> None:
    saved = []
    for name in ("cold", "warm"):
        sparse = Sparse.build(SparseConfig(model=str(splade)), collection.documents, cache=tmp_path / "cache")
        (tmp_path / name).mkdir()
        sparse.save(tmp_path / name)
        saved.append(folder_digests(tmp_path / name))
        assert weighed == [20, 20, 20, 4]
    assert saved[0] == saved[1]
    for other in (SparseConfig(model=str(splade), document_prompt="a "), SparseConfig(model=str(splade), max_length=9)):
        weighed.clear()
        Sparse.build(other, collection.documents, cache=tmp_path / "cache")
        assert weighed == [20, 20, 20, 4]
    alone = Sparse.build(SparseConfig(model=str(splade)), collection.documents)
    assert same(sparse.search(QUERIES, 20), alone.search(QUERIES, 20))


def test_a_kill_loses_one_shard_at_most(
    collection: Collection, splade: Path, tmp_path: Path, weighed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, counted = SparseConfig(model=str(splade)), TermEncoder.encode

    def killed(self: TermEncoder, texts: Sequence[str], *arguments: Any) -> Any:
        if len(weighed) == 2:
            raise Killed
        return counted(self, texts, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TermEncoder, "encode", killed)
        with pytest.raises(Killed):
            Sparse.build(config, collection.documents, cache=tmp_path)
    assert weighed == [20, 20]
    Sparse.build(config, collection.documents, cache=tmp_path)
    assert weighed == [20, 20, 20, 4]


def test_processes_share_the_work(
    collection: Collection, splade: Path, tmp_path: Path, weighed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FirstStageConfig(kind="sparse", sparse=SparseConfig(model=str(splade)))
    monkeypatch.setattr(embeddings_module, "wait", lambda: None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, expected in (("0", [20, 20]), ("1", [20, 4])):
        monkeypatch.setenv("RANK", rank)
        share(config, collection.documents, tmp_path)
        assert weighed == expected
        weighed.clear()
    build(config, collection.documents, cache=tmp_path)
    assert weighed == []


class Words:
    """Stands in for the encoder: every letter is a term, its weight how often it occurs."""

    max_seq_length = 64

    def modules(self) -> list[Any]:
        return []

    def encode_document(self, texts: Sequence[str], **_: Any) -> Any:
        import torch

        counts = [[float(text.count(letter)) for letter in "abcdef"] for text in texts]
        return torch.tensor(counts).reshape(len(texts), 6).to_sparse()

    encode_query = encode_document


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> SparseConfig:
    monkeypatch.setattr(sparse_module, "loading", lambda model, load: Words())
    return SparseConfig(model="letters")


def test_only_documents_that_share_a_term_are_found(as_documents: AsDocuments, letters: SparseConfig) -> None:
    sparse = Sparse.build(letters, as_documents(["aab", "b", "", "c", "aaa"]))
    first, second, third = sparse.search(["ab", "", "f"], 10)
    assert (first.rows.tolist(), first.scores.tolist()) == ([0, 4, 1], [3.0, 3.0, 1.0])
    assert second.rows.tolist() == third.rows.tolist() == []
    assert second.retrievers == ()
    assert sparse.search([], 10) == []


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 39, 40, 100])
def test_equal_scores_come_in_corpus_order_even_at_the_cut(
    as_documents: AsDocuments, letters: SparseConfig, depth: int
) -> None:
    # Every fourth document is the better one; all others tie.
    sparse = Sparse.build(letters, as_documents(["aa" if i % 4 == 3 else "a" for i in range(40)]))
    whole = [i for i in range(40) if i % 4 == 3] + [i for i in range(40) if i % 4 != 3]
    assert sparse.search(["a"], depth)[0].rows.tolist() == whole[:depth]


def test_queries_are_scored_in_blocks_that_change_nothing(
    collection: Collection, letters: SparseConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    sparse = Sparse.build(letters, collection.documents)
    queries = [*collection.queries.values()]
    whole = sparse.search(queries, 7)
    for scores in (1, 64, 64 * 5):  # one query at a time, one again, five
        monkeypatch.setattr(sparse_module, "BLOCK", scores)
        assert same(sparse.search(queries, 7), whole)


def test_prompts_stand_before_the_texts(as_documents: AsDocuments, splade: Path) -> None:
    texts, name = ["snow frost", "rail ticket", "king queen"], str(splade)
    prompted = Sparse.build(
        SparseConfig(model=name, document_prompt="bread: ", query_prompt="bake "), as_documents(texts)
    )
    written = Sparse.build(SparseConfig(model=name), as_documents([f"bread: {text}" for text in texts]))
    bare = Sparse.build(SparseConfig(model=name), as_documents(texts))
    assert same(prompted.search(["snow"], 3), written.search(["bake snow"], 3))
    assert not same(prompted.search(["snow"], 3), written.search(["snow"], 3))
    assert not same(prompted.search(["snow"], 3), bare.search(["bake snow"], 3))


def test_only_max_length_tokens_are_read(as_documents: AsDocuments, splade: Path) -> None:
    start = "flour yeast oven dough crust knead"  # with [CLS] and [SEP] eight tokens
    documents = as_documents([f"{start} loaf bake", f"{start} snow frost ice", start])
    (short,) = Sparse.build(SparseConfig(model=str(splade), max_length=8), documents).search(["flour"], 3)
    assert short.rows.tolist() == [0, 1, 2]
    assert short.scores == pytest.approx([short.scores[0]] * 3)
    (whole,) = Sparse.build(SparseConfig(model=str(splade)), documents).search(["flour"], 3)
    assert len(set(whole.scores.round(3).tolist())) == 3


def test_what_was_saved_opens_without_the_model(collection: Collection, splade: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(splade, model)
    config = FirstStageConfig(kind="sparse", sparse=SparseConfig(model=str(model), max_length=16))
    built = build(config, collection.documents)
    folder = tmp_path / "first_stage"
    folder.mkdir()
    save(built, config, folder)
    shutil.rmtree(model)
    opened = load(folder)
    assert same(opened.search(QUERIES, 20), built.search(QUERIES, 20))
    assert dict(opened.parts()) == {"sparse": opened}


def test_a_model_that_is_no_sparse_encoder_is_refused(tiny_model: Path, tmp_path: Path, collection: Collection) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    inner: Any = Transformer(str(tiny_model))
    modules: Any = [inner, Pooling(inner.get_embedding_dimension())]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "dense"), create_model_card=False)
    for model in (tiny_model, tmp_path / "dense"):
        with pytest.raises(UserError, match=r"first_stage\.sparse\.model: .* is no sparse encoder"):
            Sparse.build(SparseConfig(model=str(model)), collection.documents)
    with pytest.raises(UserError, match="no such folder"):
        Sparse.build(SparseConfig(model="./not/there"), collection.documents)


def test_a_hybrid_fuses_three(collection: Collection, splade: Path, tiny_model: Path, tmp_path: Path) -> None:
    config = FirstStageConfig(
        kind="hybrid",
        retrievers=("bm25", "sparse", "dense"),
        weights={"dense": 1.0, "sparse": 2.0, "bm25": 1.0},
        dense=DenseConfig(model=str(tiny_model)),
        sparse=SparseConfig(model=str(splade)),
        depth=12,
    )
    hybrid = build(config, collection.documents)
    save(hybrid, config, tmp_path)
    for stage in (hybrid, load(tmp_path)):
        assert list(stage.parts()) == ["bm25", "sparse", "dense"]
        lists = {name: part.search(["pedal of the piano"], 12)[0] for name, part in stage.parts().items()}
        expected = fuse(lists, {"bm25": 0.25, "sparse": 0.5, "dense": 0.25}, "zscore", 8)
        (found,) = stage.search(["pedal of the piano"], 8)
        assert found.rows.tolist() == expected.rows.tolist()
        assert found.scores == pytest.approx(expected.scores)
        assert found.retrievers == expected.retrievers
    assert "bm25+sparse+dense" in found.retrievers


def test_a_first_stage_is_made_from_the_models_it_uses(splade: Path, tiny_model: Path) -> None:
    models: Any = {"dense": DenseConfig(model=str(tiny_model)), "sparse": SparseConfig(model=str(splade))}
    weights: Any = {"sparse": 1.0, "dense": 1.0}
    assert made_from(FirstStageConfig(kind="bm25", **models)) == {"words": str(WORDS)}
    assert made_from(FirstStageConfig(kind="dense", **models)).keys() == {"dense"}
    assert made_from(FirstStageConfig(kind="sparse", **models)).keys() == {"sparse"}
    both = FirstStageConfig(kind="hybrid", retrievers=("sparse", "dense"), weights=weights, **models)
    assert made_from(both).keys() == {"dense", "sparse"}
