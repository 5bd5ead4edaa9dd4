"""The systems that are compared: names, samples, seeds, and the same candidates for all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from secondstage.collection import Collection
from secondstage.config import SYSTEMS, Bm25Config, EvaluateConfig, TrainConfig
from secondstage.errors import UserError
from secondstage.firststage import search_run
from secondstage.firststage.bm25 import Bm25
from secondstage.networks import load_cross_encoder
from secondstage.reranker import Reranker
from secondstage.run import Run
from secondstage.scoring import Random, rerank
from secondstage.serve import Pipeline, Start
from secondstage.serve.proof.queries import QuerySet, query_set
from secondstage.serve.proof.systems import open_reranker, run_systems
from secondstage.splits import choose_queries
from secondstage.train.model import start_model

from .conftest import serving

DEPTH = 20


@pytest.fixture(scope="module")
def pipeline(run_folder: Path) -> Pipeline:
    return Pipeline.load(run_folder / "bundle")


@pytest.fixture(scope="module")
def tested(collection: Collection) -> QuerySet:
    return query_set(collection, "test", None, 13)


@pytest.fixture(scope="module")
def other(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another cross-encoder, with a head of its own."""
    torch.manual_seed(77)
    folder = tmp_path_factory.mktemp("other") / "model"
    Reranker(*load_cross_encoder(str(tiny_model)), max_length=32).save(folder)
    return folder


def scores_of(run: Run) -> dict[tuple[str, str], float]:
    return {
        (query_id, doc_id): float(score)
        for query_id, ranking in run.items()
        for doc_id, score in zip(ranking.doc_ids, ranking.scores, strict=True)
    }


def candidates(run: Run) -> dict[str, set[str]]:
    return {query_id: set(ranking.doc_ids) for query_id, ranking in run.items()}


def run_all(
    pipeline: Pipeline, tested: QuerySet, scores: Path, start: Start | None = None, seed: int = 13, **config: Any
) -> dict[str, Run]:
    return run_systems(pipeline, tested, EvaluateConfig(**config), start, seed=seed, scores=scores)


# --- names


@pytest.mark.parametrize("name", [*SYSTEMS, "", "two words", " teacher", "a\tb"])
@pytest.mark.parametrize("key", ["rerankers", "exports"])
def test_names_that_cannot_be_are_refused(key: str, name: str) -> None:
    with pytest.raises(
        ValueError, match=f"{re.escape(repr(name))} cannot name a reranker: give one word without a slash"
    ):
        EvaluateConfig.model_validate({key: {"teacher": "a", name: "b"}})


def test_other_names_are_taken() -> None:
    names = {"teacher": "a", "bge-v2.5": "b", "Untuned": "c", "größer": "d"}
    assert EvaluateConfig(rerankers=names).rerankers == names


def test_every_own_system_has_its_name_reserved(
    pipeline: Pipeline, tested: QuerySet, tiny_model: Path, tmp_path: Path
) -> None:
    assert run_all(pipeline, tested, tmp_path, Start(str(tiny_model), 32, 13)).keys() <= set(SYSTEMS)


# --- candidates


def test_every_system_has_exactly_the_candidates_of_the_first_stage(
    pipeline: Pipeline, tested: QuerySet, tiny_model: Path, other: Path, tmp_path: Path
) -> None:
    runs = run_all(pipeline, tested, tmp_path, Start(str(tiny_model), 32, 13), rerankers={"teacher": str(other)})
    alone = ("bm25", "dense")
    reordering = ("reranked", "pipeline", "identity", "random", "oracle", "untuned", "teacher")
    assert runs.keys() == {"first_stage", *reordering, *alone}
    assert next(iter(runs)) == "first_stage"
    assert {name: run.name for name, run in runs.items()} == {name: name for name in runs}
    first = runs["first_stage"]
    for name in reordering:
        assert candidates(runs[name]) == candidates(first), name
        assert all(len(ranking.doc_ids) == DEPTH for ranking in runs[name].values())
    assert {query_id: r.doc_ids for query_id, r in runs["identity"].items()} == {
        query_id: r.doc_ids for query_id, r in first.items()
    }
    for name in alone:
        part = pipeline.first_stage.parts()[name]
        expected = search_run(part, pipeline.documents.ids, tested.queries, DEPTH, name)
        assert scores_of(runs[name]) == scores_of(expected)


def test_a_single_retriever_is_no_system_beside_itself(pipeline: Pipeline, tested: QuerySet, tmp_path: Path) -> None:
    bm25 = Bm25.build(Bm25Config(), pipeline.documents)
    lexical = Pipeline(bm25, pipeline.reranker, pipeline.documents, depth=DEPTH, weight=0.5)
    runs = run_all(lexical, tested, tmp_path)
    assert runs.keys() == {"first_stage", "reranked", "pipeline", "identity", "random", "oracle"}
    assert any(len(ranking.doc_ids) < DEPTH for ranking in runs["first_stage"].values())
    assert all(candidates(run) == candidates(runs["first_stage"]) for run in runs.values())


def test_the_random_order_is_the_seeds(pipeline: Pipeline, tested: QuerySet, tmp_path: Path) -> None:
    one, again, two = (run_all(pipeline, tested, tmp_path, seed=seed)["random"] for seed in (1, 1, 2))
    expected = rerank(
        Random(1), pipeline.rank(tested.queries).first_stage, tested.queries, pipeline.documents, name="random"
    )
    assert scores_of(one) == scores_of(again) == scores_of(expected)
    assert scores_of(one) != scores_of(two)


# --- the untuned model


def untuned(
    pipeline: Pipeline, tested: QuerySet, model: Path, scores: Path, seed: int, max_length: int = 32
) -> dict[Any, float]:
    return scores_of(run_all(pipeline, tested, scores, Start(str(model), max_length, seed))["untuned"])


@pytest.mark.parametrize("max_length", [32, 16])
def test_the_untuned_model_is_the_one_that_training_started_from(
    pipeline: Pipeline, tested: QuerySet, tiny_model: Path, tmp_path: Path, max_length: int
) -> None:
    torch.manual_seed(1234)  # what was drawn before does not matter
    found = untuned(pipeline, tested, tiny_model, tmp_path / "one", 13, max_length)
    assert found == untuned(pipeline, tested, tiny_model, tmp_path / "two", 13, max_length)
    assert found != untuned(pipeline, tested, tiny_model, tmp_path / "one", 14, max_length)
    assert found != untuned(pipeline, tested, tiny_model, tmp_path / "one", 13, 12)

    torch.manual_seed(13)
    at_start = start_model(TrainConfig(model=str(tiny_model), steps=1, max_length=max_length))
    at_start.model.eval()
    expected = scores_of(at_start.rerank(pipeline.rank(tested.queries).first_stage, tested.queries, pipeline.documents))
    assert found == pytest.approx(expected, abs=1e-5)


def test_scores_of_two_heads_are_not_mixed_up(
    pipeline: Pipeline, tested: QuerySet, tiny_model: Path, tmp_path: Path
) -> None:
    """Both are kept in the same folder, for the same weights below the head."""
    together = [untuned(pipeline, tested, tiny_model, tmp_path / "both", seed) for seed in (13, 14, 13)]
    apart = [untuned(pipeline, tested, tiny_model, tmp_path / str(seed), seed) for seed in (13, 14)]
    assert together == [*apart, apart[0]]


@pytest.mark.parametrize(("start", "config"), [(False, {}), (True, {"untuned": False})])
def test_the_untuned_model_can_be_left_out(
    pipeline: Pipeline, tested: QuerySet, tiny_model: Path, tmp_path: Path, start: bool, config: dict[str, Any]
) -> None:
    model = Start(str(tiny_model), 32, 13) if start else None
    assert "untuned" not in run_all(pipeline, tested, tmp_path, model, **config)


# --- further rerankers


def test_what_is_costly_sees_a_sample_of_the_queries(
    pipeline: Pipeline, tested: QuerySet, tiny_model: Path, other: Path, tmp_path: Path
) -> None:
    start = Start(str(tiny_model), 32, 13)
    settings: dict[str, Any] = {"rerankers": {"teacher": str(other)}, "baseline_queries": 5}
    runs = run_all(pipeline, tested, tmp_path, start, **settings)
    chosen = choose_queries(tested.queries, 5, 13)
    assert len(chosen) == 5
    for name, run in runs.items():
        assert list(run) == (chosen if name in ("untuned", "teacher") else list(tested.queries)), name
    whole = run_all(pipeline, tested, tmp_path / "whole", start, **{**settings, "baseline_queries": None})
    assert len(whole["teacher"]) == 16
    assert scores_of(whole["teacher"].only(chosen)) == pytest.approx(scores_of(runs["teacher"]), abs=1e-5)
    assert candidates(runs["teacher"]) == candidates(runs["first_stage"].only(chosen))


def test_a_further_reranker_scores_as_it_does_alone(
    pipeline: Pipeline, tested: QuerySet, other: Path, tmp_path: Path
) -> None:
    found = run_all(pipeline, tested, tmp_path, rerankers={"teacher": str(other)})["teacher"]
    first = pipeline.rank(tested.queries).first_stage
    alone = Reranker.load(other, precision="fp32").rerank(first, tested.queries, pipeline.documents)
    assert scores_of(found) == pytest.approx(scores_of(alone), abs=1e-5)


def test_a_further_reranker_computes_as_the_pipelines_own(pipeline: Pipeline, other: Path) -> None:
    found = open_reranker(pipeline, str(other))
    assert found.origin == (str(other), "fp32")
    assert found.batch_tokens == pipeline.reranker.batch_tokens
    assert found.max_length == 32
    assert open_reranker(pipeline, str(other), Start(str(other), 20, 13)).max_length == 20


def test_a_reranker_that_is_not_there_is_refused(pipeline: Pipeline, tested: QuerySet, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        run_all(pipeline, tested, tmp_path, rerankers={"teacher": str(tmp_path / "nowhere")})


# --- an API


class Api(HTTPServer):
    """Scores every document as `Random(5)` does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        api = cast(Api, self.server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        api.seen.append(body)
        api.keys.add(self.headers["Authorization"])
        scores = Random(5).score([(body["query"], document) for document in body["documents"]])
        results = [{"index": i, "relevance_score": score} for i, score in enumerate(scores.tolist())]
        content = json.dumps({"results": results}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = Api()
    with serving(server):
        yield server


def test_an_api_is_asked_once_about_the_sample(
    pipeline: Pipeline, tested: QuerySet, tmp_path: Path, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret")
    url = f"http://127.0.0.1:{api.server_port}/rerank"
    remote = {"url": url, "model": "rerank-x", "api_key_env": "SOME_KEY", "documents_per_request": 8, "concurrency": 2}
    config = EvaluateConfig.model_validate({"remote": remote, "baseline_queries": 4})
    runs = run_systems(pipeline, tested, config, None, seed=13, scores=tmp_path)
    chosen = choose_queries(tested.queries, 4, 13)
    assert list(runs["remote"]) == chosen
    assert candidates(runs["remote"]) == candidates(runs["first_stage"].only(chosen))
    expected = rerank(Random(5), runs["first_stage"].only(chosen), tested.queries, pipeline.documents)
    assert scores_of(runs["remote"]) == scores_of(expected)
    # 20 candidates, eight at a time.
    assert sorted(body["query"] for body in api.seen) == sorted(tested.queries[query_id] for query_id in chosen * 3)
    assert {len(body["documents"]) for body in api.seen} == {8, 4}
    assert {body["model"] for body in api.seen} == {"rerank-x"}
    assert api.keys == {"Bearer s3cret"}
    assert not any(b"s3cret" in path.read_bytes() for path in tmp_path.rglob("*"))

    api.seen.clear()
    again = run_systems(pipeline, tested, config, None, seed=13, scores=tmp_path)
    assert scores_of(again["remote"]) == scores_of(expected)
    assert api.seen == []
    other = EvaluateConfig.model_validate({"remote": {**remote, "model": "rerank-y"}, "baseline_queries": 4})
    run_systems(pipeline, tested, other, None, seed=13, scores=tmp_path)
    assert {body["model"] for body in api.seen} == {"rerank-y"}


def test_a_key_that_is_not_set_is_named(pipeline: Pipeline, tested: QuerySet, tmp_path: Path) -> None:
    remote = {"url": "http://127.0.0.1:9/rerank", "api_key_env": "NO_SUCH_KEY"}
    with pytest.raises(UserError, match="NO_SUCH_KEY is not set"):
        run_systems(pipeline, tested, EvaluateConfig.model_validate({"remote": remote}), None, seed=13, scores=tmp_path)
