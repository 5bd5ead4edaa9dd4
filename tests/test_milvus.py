"""Milvus, embedded: it finds what BM25, exact search and their fusion find; its folder; a server that is away."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import secondstage.encoder
from secondstage.collection import Collection, Documents
from secondstage.config import Bm25Config, DenseConfig, FirstStageConfig, MilvusConfig
from secondstage.configfile import check_config
from secondstage.errors import UserError
from secondstage.files import folder_digests
from secondstage.firststage import FirstStage, Hits, build, load, made_from, save, search_run
from secondstage.firststage import milvus as milvus_module
from secondstage.firststage import milvusindex as index_module
from secondstage.firststage.bm25 import Bm25
from secondstage.firststage.dense import load_encoder
from secondstage.firststage.hybrid import fuse
from secondstage.firststage.milvusindex import collection_name
from secondstage.firststage.without import search_without
from secondstage.firststage.words import WORDS

pytest.importorskip("pymilvus", reason="needs the extra milvus")

AsDocuments = Callable[[Sequence[str]], Documents]
QUERIES = ["flour of the bread", "water of the river", "key", "king queen rook of the chess board", "unknown", ""]


@pytest.fixture(autouse=True, scope="module")
def single_precision() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secondstage.encoder, "resolve", lambda _: "fp32")
        yield


def config(model: Path | None = None, retrieve: Any = "bm25", **settings: Any) -> FirstStageConfig:
    dense = DenseConfig(model=str(model), index=settings.pop("index", "auto"))
    return FirstStageConfig(kind="milvus", milvus=MilvusConfig(retrieve=retrieve), dense=dense, **settings)


@pytest.fixture(scope="module")
def hybrid(collection: Collection, tiny_model: Path) -> FirstStage:
    """BM25 and dense, whose parts are either."""
    return build(config(tiny_model, "hybrid", weight=0.3, depth=12), collection.documents)


def same(one: list[Hits], other: list[Hits]) -> bool:
    return len(one) == len(other) and all(
        a.rows.tolist() == b.rows.tolist()
        and a.scores == pytest.approx(b.scores, rel=1e-4, abs=1e-5)
        and a.retrievers == b.retrievers
        for a, b in zip(one, other, strict=True)
    )


def scored(hits: Hits) -> dict[int, float]:
    return dict(zip(hits.rows.tolist(), hits.scores.tolist(), strict=True))


@pytest.mark.parametrize("settings", [Bm25Config(), Bm25Config(k1=1.5, b=0.75, language="none")])
def test_its_bm25_is_ours(collection: Collection, settings: Bm25Config) -> None:
    queries = [*QUERIES, *collection.queries.values()]
    built = build(config(bm25=settings), collection.documents)
    ours = Bm25.build(settings, collection.documents)
    for found, expected in zip(built.search(queries, 64), ours.search(queries, 64), strict=True):
        # Lucene leaves a constant factor of the formula out.
        assert scored(found) == pytest.approx({row: (settings.k1 + 1) * s for row, s in scored(expected).items()})
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
        assert found.retrievers == ("bm25",) * len(found.rows)
    assert [len(hits.rows) for hits in built.search(QUERIES, 64)][-2:] == [0, 0]


def test_its_dense_search_is_exact(collection: Collection, tiny_model: Path, hybrid: FirstStage) -> None:
    encoder = load_encoder(DenseConfig(model=str(tiny_model)))
    contents = [document.content for document in collection.documents]
    expected = encoder.encode(QUERIES) @ encoder.encode(contents).T
    for hits, scores in zip(hybrid.parts()["dense"].search(QUERIES, 10), expected, strict=True):
        assert hits.rows.tolist() == np.argsort(-scores, kind="stable")[:10].tolist()
        assert hits.scores == pytest.approx(scores[hits.rows], abs=1e-5)
        assert hits.retrievers == ("dense",) * 10


def test_prompts_stand_before_the_texts(as_documents: AsDocuments, tiny_model: Path) -> None:
    texts, model = ["snow frost", "rail ticket", "king queen"], str(tiny_model)
    dense = DenseConfig(model=model, document_prompt="bread: ", query_prompt="bake ")
    prompted = FirstStageConfig(kind="milvus", milvus=MilvusConfig(retrieve="dense"), dense=dense)
    written = build(config(tiny_model, "dense"), as_documents([f"bread: {text}" for text in texts]))
    assert same(build(prompted, as_documents(texts)).search(["snow"], 3), written.search(["bake snow"], 3))


@pytest.mark.parametrize("index", ["hnsw", "ivf"])
def test_approximate_indexes_find_nearly_the_same(collection: Collection, tiny_model: Path, index: str) -> None:
    built = build(config(tiny_model, "dense", index=index), collection.documents)
    exact = build(config(tiny_model, "dense", index="flat"), collection.documents)
    queries = list(collection.queries.values())
    pairs = zip(built.search(queries, 10), exact.search(queries, 10), strict=True)
    assert np.mean([len(set(a.rows.tolist()) & set(b.rows.tolist())) / 10 for a, b in pairs]) > 0.95


def test_a_hybrid_is_the_fusion_of_its_parts(hybrid: FirstStage) -> None:
    assert list(hybrid.parts()) == ["bm25", "dense"]
    lists = {name: part.search(QUERIES, 12) for name, part in hybrid.parts().items()}
    expected = [
        fuse({name: hits[i] for name, hits in lists.items()}, {"bm25": 0.7, "dense": 0.3}, "zscore", 8)
        for i in range(len(QUERIES))
    ]
    assert same(hybrid.search(QUERIES, 8), expected)
    assert hybrid.search([], 8) == []


def test_relevant_documents_are_hidden_before_the_fusion(collection: Collection, hybrid: FirstStage) -> None:
    """Nothing of a hidden document is left in the scores of the others: those are a fusion of lists without it."""
    asked = {"q": QUERIES[0]}
    best = search_run(hybrid, collection.documents.ids, asked, 1)["q"].doc_ids
    found = search_without(hybrid, collection.documents.ids, asked, {"q": best}, 8)["q"]
    lists = {}
    for name, part in hybrid.parts().items():
        (hits,) = part.search([QUERIES[0]], 13)
        kept = [i for i, row in enumerate(hits.rows) if collection.documents.ids[row] not in best][:12]
        lists[name] = Hits(hits.rows[kept], hits.scores[kept], tuple(hits.retrievers[i] for i in kept))
    expected = fuse(lists, {"bm25": 0.7, "dense": 0.3}, "zscore", 8)
    assert found.doc_ids == tuple(collection.documents.ids[row] for row in expected.rows)
    assert found.scores == pytest.approx(expected.scores, abs=1e-5)


def test_a_single_retriever_hides_them_too(collection: Collection) -> None:
    bm25, ids, asked = build(config(), collection.documents), collection.documents.ids, {"q": QUERIES[0]}
    whole = search_run(bm25, ids, asked, 6)["q"].doc_ids
    assert search_without(bm25, ids, asked, {"q": whole[:2]}, 4)["q"].doc_ids == whole[2:]


def test_a_collection_is_named_by_the_weights_not_by_the_name_of_the_model(
    as_documents: AsDocuments, tiny_model: Path, tmp_path: Path
) -> None:
    import torch

    documents, place = as_documents(["snow", "ice"]), str(tmp_path / "model")
    shutil.copytree(tiny_model, place)
    one, same, other = (secondstage.encoder.Encoder.load(name) for name in (place, str(tiny_model), place))
    with torch.no_grad():  # as if the hub held another commit under the name
        next(other.model.parameters()).view(-1)[0] += 1
    settings = config(Path(place), "dense")
    names = [collection_name(settings, documents, encoder) for encoder in (one, same, other)]
    assert names[0] == names[1] != names[2]


def test_a_collection_of_words_cut_otherwise_is_another(
    as_documents: AsDocuments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = as_documents(["snow", "ice"])
    name = collection_name(config(), documents, None)
    save(build(config(), documents), config(), tmp_path)
    assert load(tmp_path).search(["ice"], 2)[0].rows.tolist() == [1]
    path = tmp_path / "milvus.json"
    settings = json.loads(path.read_text())
    for words in ({}, {"words": WORDS - 1}):
        path.write_text(json.dumps({key: settings[key] for key in ("collection", "documents")} | words))
        with pytest.raises(UserError, match=r"holds an index of words .* otherwise"):
            load(tmp_path)
    monkeypatch.setattr(index_module, "WORDS", WORDS + 1)
    assert collection_name(config(), documents, None) != name


def test_queries_beyond_one_request(
    collection: Collection, hybrid: FirstStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = list(collection.queries.values())
    whole = hybrid.search(queries, 5)
    monkeypatch.setattr(milvus_module, "ASKED", 7)
    assert same(hybrid.search(queries, 5), whole)


def test_documents_beyond_one_request(
    collection: Collection, tiny_model: Path, hybrid: FirstStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "CHUNK", 10)
    monkeypatch.setattr(index_module, "SENT", 3)
    built = build(config(tiny_model, "hybrid", weight=0.3, depth=12), collection.documents)
    assert same(built.search(QUERIES, 8), hybrid.search(QUERIES, 8))


def test_depth_beyond_the_corpus_gives_all_of_it(hybrid: FirstStage) -> None:
    assert [len(hits.rows) for hits in hybrid.parts()["dense"].search(["snow"], 100_000)] == [64]


def test_any_script_and_any_quotes(as_documents: AsDocuments) -> None:
    texts = [
        'say "snow"; drop',
        "l'été là-bas",
        "雪 東京 氷",
        "ثلج وجليد",
        "",
        "'; --",
        "snow_storm\0\n\tsnow",
        "हिन्दी भाषा",
    ]
    built = build(config(bm25=Bm25Config(language="none")), as_documents(texts))
    queries = ['"snow"', "été", "東京", "جليد", "snow_storm", "'; --", '{"a": 1}', "भाषा", "भाष"]
    rows = [hits.rows.tolist() for hits in built.search(queries, 10)]
    ours = Bm25.build(Bm25Config(language="none"), as_documents(texts)).search(queries, 10)
    assert rows == [hits.rows.tolist() for hits in ours]
    assert rows[-2:] == [[7], []]
    assert rows[:5] == [[6, 0], [1], [2], [3], [6]] or sorted(rows[0]) == [0, 6]


def test_a_text_longer_than_milvus_takes_is_cut(as_documents: AsDocuments, capsys: pytest.CaptureFixture[str]) -> None:
    long = " ".join(f"wörd{i}" for i in range(20_000))
    built = build(config(bm25=Bm25Config(language="none")), as_documents([long, "snow"]))
    assert "reads 65535 bytes of words: the rest of 1 longer documents is left out" in capsys.readouterr().err
    assert [hits.rows.tolist() for hits in built.search(["wörd0", "wörd19999", "snow"], 5)] == [[0], [], [1]]


def test_no_word_at_all_is_refused(as_documents: AsDocuments) -> None:
    with pytest.raises(UserError, match="no document holds a word that BM25 can index"):
        build(config(), as_documents(["of the", "?!"]))


@pytest.fixture(scope="module")
def saved(
    collection: Collection, hybrid: FirstStage, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("milvus") / "first_stage"
    folder.mkdir()
    save(hybrid, config(tiny_model, "hybrid", weight=0.3, depth=12), folder)
    return folder


def test_what_was_saved_gives_the_same_hits_and_stays_as_it_is(hybrid: FirstStage, saved: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(saved, moved)
    before = folder_digests(moved)
    for path in [moved, *moved.rglob("*")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    first, second = load(moved), load(moved)  # opened twice at once
    for opened in (first, second, hybrid):
        assert same(opened.search(QUERIES, 15), hybrid.search(QUERIES, 15))
    del first, second, opened
    assert folder_digests(moved) == before
    for path in [moved, *moved.rglob("*")]:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


SCRIPT = """
import json, sys
from pathlib import Path
from secondstage.firststage import load
print(json.dumps([hits.rows.tolist() for hits in load(Path(sys.argv[1])).search(["key"], 5)]))
"""


@pytest.mark.slow
def test_another_process_opens_the_same_folder_meanwhile(collection: Collection, tmp_path: Path) -> None:
    save(build(config(), collection.documents), config(), tmp_path)
    opened = load(tmp_path)
    ran = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == [hits.rows.tolist() for hits in opened.search(["key"], 5)]
    assert not ran.stderr


def test_nothing_is_left_when_nobody_holds_it(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from milvus_lite import server_manager_instance

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    servers = set(server_manager_instance._servers)
    opened = load(saved)
    assert len(server_manager_instance._servers) == len(servers) + 1
    assert list(tmp_path.iterdir())
    part = opened.parts()["bm25"]
    del opened
    assert part.search(["key"], 5)[0].rows.tolist()
    del part
    assert set(server_manager_instance._servers) == servers
    assert list(tmp_path.iterdir()) == []


def test_a_collection_that_lost_documents_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "first_stage"
    shutil.copytree(saved, folder)
    settings = json.loads((folder / "milvus.json").read_text())
    for change, said in (({"documents": 65}, "holds 64 of 65 documents"), ({"collection": "other"}, "is not there")):
        (folder / "milvus.json").write_text(json.dumps(settings | change))
        with pytest.raises(UserError, match=f"{said}: delete the folder first_stage"):
            load(folder)


@pytest.fixture
def server(tmp_path: Path) -> Any:
    """A Milvus that is reached over the network, as a cluster is."""
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    server, db, port = start_server_in_thread(str(tmp_path / "cluster"))
    yield f"http://127.0.0.1:{port}"
    server.stop(grace=None).wait()
    db.close()


def at(uri: str, **milvus: Any) -> FirstStageConfig:
    return FirstStageConfig(kind="milvus", milvus=MilvusConfig(uri=uri, retrieve="bm25", **milvus))


@pytest.fixture
def any_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """milvus-lite, which stands in for a cluster here, lacks the tokenizer that a cluster has."""
    from milvus_lite.analyzer import factory

    known = factory._build_by_name

    def build_by_name(name: str, **settings: Any) -> Any:
        return known("standard" if name == "whitespace" else name, **settings)

    monkeypatch.setattr(factory, "_build_by_name", build_by_name)


@pytest.mark.usefixtures("any_tokenizer")
def test_a_cluster_keeps_each_corpus_apart(
    collection: Collection, as_documents: AsDocuments, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pymilvus import MilvusClient

    client: Any = MilvusClient(server)
    built = build(at(server), collection.documents)
    folder = tmp_path / "first_stage"
    folder.mkdir()
    save(built, at(server), folder)
    assert {path.name for path in folder.iterdir()} == {"milvus.json", "first_stage.json"}
    ours = Bm25.build(Bm25Config(), collection.documents).search(QUERIES, 64)
    (name,) = client.list_collections()
    assert name.startswith("secondstage_")
    assert f"made collection {name}" in capsys.readouterr().err

    build(at(server), collection.documents)
    assert f"holds collection {name} already" in capsys.readouterr().err
    build(at(server), as_documents(["snow", "ice"]))
    build(at(server, collection="mine"), collection.documents)
    assert len(client.list_collections()) == 3
    for found, expected in zip(load(folder).search(QUERIES, 64), ours, strict=True):
        assert set(found.rows.tolist()) == set(expected.rows.tolist())

    client.drop_collection(name)
    with pytest.raises(UserError, match=f"collection {name} is not there"):
        load(folder)
    client.close()


@pytest.mark.usefixtures("any_tokenizer")
def test_what_a_kill_left_is_made_anew(collection: Collection, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pymilvus import MilvusClient

    class Killed(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    whole = Bm25.build(Bm25Config(), collection.documents).search(["key"], 64)[0]
    monkeypatch.setattr(index_module, "SENT", 40)
    for step in ("insert", "flush", "create_index", "load_collection"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MilvusClient, step, killed)
            with pytest.raises(Killed):
                build(at(server), collection.documents)
        (found,) = build(at(server), collection.documents).search(["key"], 64)
        assert scored(found) == pytest.approx({row: 1.9 * score for row, score in scored(whole).items()})
        client: Any = MilvusClient(server)
        client.drop_collection(client.list_collections()[0])
        client.close()


def test_a_server_that_is_not_there_is_named(collection: Collection, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match=r"Milvus at http://127\.0\.0\.1:1: .*first_stage\.milvus\.uri"):
        build(at("http://127.0.0.1:1"), collection.documents)
    with pytest.raises(UserError, match="Milvus at nowhere"):
        build(at("nowhere"), collection.documents)
    assert not caplog.records


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILVUS_TOKEN", raising=False)
    wanted = at("http://127.0.0.1:1", token_env="MILVUS_TOKEN")
    with pytest.raises(UserError, match="the environment variable MILVUS_TOKEN is not set"):
        made_from(wanted)
    monkeypatch.setenv("MILVUS_TOKEN", "root:secret")
    assert made_from(wanted) == {"words": str(WORDS)}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dense": {"index": "pq"}}, "first_stage.dense.index: on Milvus give auto"),
        ({"retrievers": ["bm25", "sparse"], "weights": {"bm25": 1.0, "sparse": 1.0}}, "Milvus fuses bm25 and dense"),
        ({"milvus": {"collection": "my-docs"}}, "collection"),
    ],
)
def test_what_milvus_cannot_do_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FirstStageConfig.from_json({"kind": "milvus"} | settings)


def test_a_hybrid_is_not_searched_deeper_than_it_fuses() -> None:
    run: dict[str, Any] = {"output": "x", "collection": "x", "train": {"steps": 1}, "serve": {"depth": 201}}
    with pytest.raises(UserError, match="looks 201 documents deep, but the hybrid fuses only"):
        check_config(run | {"first_stage": "milvus"})
    check_config(run | {"first_stage": {"kind": "milvus", "milvus": {"retrieve": "bm25"}}})


def test_without_pymilvus_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'secondstage\[milvus\]'"):
        made_from(config())


def test_no_thread_is_left_behind(as_documents: AsDocuments) -> None:
    documents = as_documents(["snow", "ice"])
    build(config(), documents)
    before = threading.active_count()
    for _ in range(3):
        build(config(), documents)
    # Other libraries of this process may start one meanwhile; each build would leave one.
    assert threading.active_count() < before + 3
