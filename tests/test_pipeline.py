"""The two-stage pipeline: what a search returns, and what a bundle must be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from secondstage.collection import Collection
from secondstage.config import Bm25Config
from secondstage.errors import UserError
from secondstage.files import MANIFEST, read_json
from secondstage.firststage.bm25 import Bm25
from secondstage.run import Ranking
from secondstage.serve import Pipeline, Result

QUERIES = ["water of the river", "key of the piano", "a king and his queen", "unheard of"]


@pytest.fixture(scope="module")
def loaded(run_folder: Path) -> Pipeline:
    return Pipeline.load(run_folder / "bundle")


@pytest.fixture(scope="module")
def pipeline(loaded: Pipeline) -> Pipeline:
    """The same with a weight at which all three orders differ."""
    return Pipeline(loaded.first_stage, loaded.reranker, loaded.documents, depth=20, weight=0.5)


@pytest.fixture
def bundle(run_folder: Path, tmp_path: Path) -> Path:
    """A copy, free to be broken."""
    shutil.copytree(run_folder / "bundle", tmp_path / "bundle")
    return tmp_path / "bundle"


def place(ranking: Ranking, doc_id: str) -> int:
    return ranking.doc_ids.index(doc_id)


@pytest.mark.parametrize("query", QUERIES)
def test_results_are_what_the_three_runs_say(pipeline: Pipeline, query: str) -> None:
    results = pipeline.search(query, 20)
    first, reranked, fused = (run["q"] for run in pipeline.rank({"q": query}))
    assert len({first.doc_ids, reranked.doc_ids, fused.doc_ids}) == 3
    assert [result.rank for result in results] == list(range(1, 21))
    assert tuple(result.doc_id for result in results) == fused.doc_ids
    for i, result in enumerate(results):
        document = pipeline.documents.by_id(result.doc_id)
        assert (result.title, result.text) == (document.title, document.text)
        assert result.score == fused.scores[i]
        assert result.reranker_score == reranked.scores[place(reranked, result.doc_id)]
        assert result.first_stage_rank == place(first, result.doc_id) + 1
        assert result.first_stage_score == first.scores[place(first, result.doc_id)]
        assert result.retriever == first.retrievers[place(first, result.doc_id)]


def test_the_runs_hold_the_same_candidates(pipeline: Pipeline) -> None:
    runs = pipeline.rank({f"q{i}": query for i, query in enumerate(QUERIES)})
    assert [run.name for run in runs] == ["first_stage", "reranked", "pipeline"]
    for run in runs:
        assert list(run) == ["q0", "q1", "q2", "q3"]
        for query_id, ranking in run.items():
            assert set(ranking.doc_ids) == set(runs.first_stage[query_id].doc_ids)
            assert len(set(ranking.doc_ids)) == 20
            assert (np.diff(ranking.scores) < 0).all()


def test_scores_of_the_reranker_are_those_of_the_pairs(pipeline: Pipeline) -> None:
    results = pipeline.search(QUERIES[0], 20)
    expected = pipeline.reranker.score([(QUERIES[0], pipeline.documents.by_id(r.doc_id).content) for r in results])
    assert [r.reranker_score for r in results] == pytest.approx(expected, abs=1e-5)


def test_a_query_alone_and_among_others_has_the_same_results(pipeline: Pipeline) -> None:
    runs = pipeline.rank({f"q{i}": query for i, query in enumerate(QUERIES)})
    alone = pipeline.rank({"q2": QUERIES[2]})
    for run, single in zip(runs, alone, strict=True):
        found, expected = (dict(zip(x["q2"].doc_ids, x["q2"].scores.tolist(), strict=True)) for x in (run, single))
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("weight", "stage"), [(0.0, 0), (1.0, 1)])
def test_a_weight_of_0_or_1_gives_one_stage(loaded: Pipeline, weight: float, stage: int) -> None:
    extreme = Pipeline(loaded.first_stage, loaded.reranker, loaded.documents, depth=20, weight=weight)
    runs = extreme.rank({"q": QUERIES[0]})
    assert runs.pipeline["q"].doc_ids == runs[stage]["q"].doc_ids


@pytest.mark.parametrize(("top_n", "found"), [(1, 1), (3, 3), (20, 20), (21, 20), (1000, 20)])
def test_top_n_is_a_prefix(pipeline: Pipeline, top_n: int, found: int) -> None:
    results = pipeline.search(QUERIES[1], top_n)
    assert len(results) == found
    assert results == pipeline.search(QUERIES[1], 20)[:found]


def test_ten_results_are_usual_and_all_are_json(pipeline: Pipeline) -> None:
    results = pipeline.search(QUERIES[1])
    assert len(results) == 10
    read = [Result(**found) for found in json.loads(json.dumps([result._asdict() for result in results]))]
    assert read == results


@pytest.mark.parametrize("query", ["", " ", "\n\t "])
def test_an_empty_query_is_refused(pipeline: Pipeline, query: str) -> None:
    with pytest.raises(UserError, match="the query is empty: give at least one word"):
        pipeline.search(query)


@pytest.mark.parametrize("top_n", [0, -3])
def test_fewer_than_one_result_is_refused(pipeline: Pipeline, top_n: int) -> None:
    with pytest.raises(UserError, match=f"top_n is {top_n}, must be at least 1"):
        pipeline.search("water", top_n)


@pytest.mark.parametrize("query", ["water " * 5000, "😀 𝔘𝔫𝔦", "?", "\x00", "of the"])
def test_odd_queries_find_something(pipeline: Pipeline, query: str) -> None:
    assert len(pipeline.search(query, 5)) == 5


def test_unknown_words_find_nothing_with_bm25_alone(loaded: Pipeline) -> None:
    bm25 = Bm25.build(Bm25Config(), loaded.documents)
    lexical = Pipeline(bm25, loaded.reranker, loaded.documents, depth=20, weight=0.5)
    assert lexical.search("unheard") == []
    found = lexical.search("piano", 50)
    assert {result.doc_id for result in found} == {f"piano-{i}" for i in range(8)}
    assert {result.retriever for result in found} == {"bm25"}
    runs = lexical.rank({"a": "unheard", "b": "piano"})
    assert [len(run["a"].doc_ids) for run in runs] == [0, 0, 0]
    assert [len(run["b"].doc_ids) for run in runs] == [8, 8, 8]


def test_no_queries_have_no_runs(pipeline: Pipeline) -> None:
    assert [len(run) for run in pipeline.rank({})] == [0, 0, 0]


def test_a_copied_bundle_works_where_nothing_else_is(
    beir_folder: Path, tiny_model: Path, collection: Collection, tmp_path: Path
) -> None:
    """The run, its collection and its models are deleted before the bundle is opened."""
    from secondstage.commands import carry_out_up_to
    from secondstage.configfile import check_config

    shutil.copytree(beir_folder, tmp_path / "beir")
    shutil.copytree(tiny_model, tmp_path / "model")
    model = str(tmp_path / "model")
    config = {
        "output": str(tmp_path / "out"),
        "collection": str(tmp_path / "beir"),
        "first_stage": {"kind": "hybrid", "dense": {"model": model, "query_prompt": "the "}},
        "train": {"model": model, "steps": 2, "max_length": 32, "batch_tokens": 512, "precision": "fp32"},
        "serve": {"depth": 15, "weight": 0.5, "precision": "fp32"},
        "evaluate": {"resamples": 100},
    }
    carry_out_up_to("evaluate", check_config(config))
    queries = dict(enumerate(QUERIES))
    before = {i: Pipeline.load(tmp_path / "out" / "bundle").search(query) for i, query in queries.items()}
    shutil.copytree(tmp_path / "out" / "bundle", tmp_path / "elsewhere" / "renamed")
    for name in ("beir", "model", "out"):
        shutil.rmtree(tmp_path / name)
    moved = Pipeline.load(tmp_path / "elsewhere" / "renamed")
    assert (moved.depth, moved.weight, moved.reranker.max_length) == (15, 0.5, 32)
    assert {i: moved.search(query) for i, query in queries.items()} == before
    assert Pipeline.load(str(tmp_path / "elsewhere" / "renamed")).search("water", 1) == moved.search("water", 1)


FILES = [
    "documents.arrow",
    "pipeline.json",
    "reranker/model.safetensors",
    "first_stage/dense.faiss",
    "reranker/score.json",
]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"was changed since it was made \({name}\): make it again"):
        Pipeline.load(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(UserError, match=f"is incomplete, missing: {name}: make it again"):
        Pipeline.load(bundle)


def edit(change: Callable[[dict[str, object]], object], bundle: Path) -> None:
    manifest = read_json(bundle / MANIFEST)
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def test_another_format_is_refused(bundle: Path) -> None:
    edit(lambda manifest: manifest.update(format=0), bundle)
    with pytest.raises(UserError, match=r"has format 0, made by secondstage \d+\.\d+.*reads format 1"):
        Pipeline.load(bundle)


def test_another_kind_is_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a bundle: its manifest says 'mine'"):
        Pipeline.load(run_folder / "mine")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="is not a bundle"):
            Pipeline.load(folder)
