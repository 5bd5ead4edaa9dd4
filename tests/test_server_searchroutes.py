"""The search over HTTP, and what people say of its results."""

from __future__ import annotations

import time
from typing import Any

import pytest

from secondstage.serve.options import SearchOptions
from secondstage.serve.server.signals import Judged

from .serving import BROKEN, CountingModel, ThreePipeline, asking


def test_a_search() -> None:
    with asking() as client:
        found = client.post("/search", json={"query": "bread", "top_n": 2}).json()
    assert [result["doc_id"] for result in found["results"]] == ["b", "a"]
    assert found["results"][0] == {
        "rank": 1,
        "doc_id": "b",
        "title": "",
        "text": "bread bread",
        "score": 1.0,
        "reranker_score": 1.0,
        "probability": None,
        "first_stage_rank": 2,
        "first_stage_score": 1.0,
        "retriever": "bm25",
    }
    assert (found["answerable"], found["confidence"], found["depth"], found["context"]) == (True, 0.9, 3, None)
    assert (found["milliseconds"]["first_stage"], found["milliseconds"]["rerank"]) == (1, 2)
    assert found["milliseconds"]["total"] >= found["milliseconds"]["queue"] >= 0
    assert "first_stage" not in found


def test_what_it_explains_and_packs() -> None:
    with asking() as client:
        found = client.post("/search", json={"query": "bread", "top_n": 2, "explain": True, "pack_tokens": 9}).json()
    assert [row["score"] for row in found["first_stage"]] == [3, 2]
    assert [(row["rank"], row["doc_id"], row["title"]) for row in found["first_stage"]] == [
        (1, "a", "Bread"),
        (2, "b", ""),
    ]
    assert found["context"] == [{"doc_id": "a", "text": "bake bread", "whole": True}]


def test_all_that_a_search_is_told_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[SearchOptions] = []
    before = ThreePipeline.asking

    def noting(pipeline: ThreePipeline, query: str, options: SearchOptions) -> Any:
        asked.append(options)
        return before(pipeline, query, options)

    monkeypatch.setattr(ThreePipeline, "asking", noting)
    told: dict[str, Any] = {
        "top_n": 2,
        "depth": 3,
        "min_score": 0.25,
        "latency_ms": 70.0,
        "where": {"year": 1},
        "pack_tokens": 9,
    }
    with asking() as client:
        assert client.post("/search", json={"query": "bread", **told}).status_code == 200
        assert client.post("/search", json={"query": "bread"}).status_code == 200
    assert asked == [SearchOptions(**told), SearchOptions()]


@pytest.mark.parametrize("path", ["/search", "/judgements"])
def test_a_request_keeps_its_deadline(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ThreePipeline, "first_stage_seconds", 1.5)
    body = {"query": "bread"} if path == "/search" else {"query": "bread", "doc_id": "b", "relevance": 1}
    with asking(keep=lambda _: time.sleep(1.5)) as client:
        assert client.post(path, json=body, headers={"X-Deadline-Ms": "500"}).status_code == 504
        assert client.post(path, json=body, headers={"X-Deadline-Ms": "60000"}).status_code in (200, 204)


def test_ids_of_judgements_are_short() -> None:
    body = {"query": "bread", "doc_id": "b", "relevance": 1}
    with asking(keep=lambda _: None) as client:
        for field in ("doc_id", "id"):
            assert client.post("/judgements", json=body | {field: "x" * 1000}).status_code == 204
            refused = client.post("/judgements", json=body | {field: "x" * 1001})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, field)


def test_a_cascade_asks_each_of_its_models() -> None:
    models = CountingModel(), CountingModel()
    with asking(*models) as client:
        assert client.post("/search", json={"query": "bread"}).status_code == 200
        assert [sum(model.scored) for model in models] == [3, 3]
        # The rerank APIs are those of the last one.
        client.post("/rerank", json={"query": "bread", "documents": ["a", "b"]})
        assert [sum(model.scored) for model in models] == [3, 5]
        assert client.get("/info").json()["cascade"] == [3]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "query"),
        ({"query": " "}, "query"),
        ({"query": "a" * 10_001}, "query"),
        ({"query": "a", "top_n": 0}, "top_n"),
        ({"query": "a", "depth": 0}, "depth"),
        ({"query": "a", "min_score": 1.1}, "min_score"),
        ({"query": "a", "latency_ms": 0}, "latency_ms"),
        ({"query": "a", "where": ["year"]}, "where"),
        ({"query": "a", "where": {"year": {"gt": 1}}}, "where"),
        ({"query": "a", "pack_tokens": "9"}, "pack_tokens"),
        ({"query": "a", "topn": 2}, "topn"),
    ],
)
def test_bad_searches(body: dict[str, Any], field: str) -> None:
    with asking() as client:
        answer = client.post("/search", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(f"{field}: ")
    assert answer.json()["error"]["param"] == field


def test_a_search_asks_for_no_more_than_is_given() -> None:
    """Or than it gets without asking: ten."""
    for most, given in ((12, 12), (1, 10)):
        with asking(max_documents=most) as client:
            for field in ("top_n", "depth"):
                assert client.post("/search", json={"query": "a", field: given}).status_code == 200
                answer = client.post("/search", json={"query": "a", field: given + 1})
                assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
            search = client.get("/openapi.json").json()["components"]["schemas"]["SearchBody"]["properties"]
            assert search["top_n"]["maximum"] == search["depth"]["anyOf"][0]["maximum"] == given


def test_what_the_bundle_cannot_do_is_told() -> None:
    with asking() as client:
        answer = client.post("/search", json={"query": "a", "where": {"author": "A"}})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "where: documents have only the field year")


def test_a_broken_model_is_an_error() -> None:
    class Broken(CountingModel):
        def tokenize(self, pairs: Any) -> Any:
            return super().tokenize([(query, f"{text} {BROKEN}") for query, text in pairs])

    with asking(Broken()) as client:
        answer = client.post("/search", json={"query": "bread"})
    assert answer.status_code == 500
    assert "no finite score" in answer.json()["error"]["message"]


def test_judgements() -> None:
    kept: list[Judged] = []
    body = {"id": "1", "query": "bread", "doc_id": "a", "relevance": 2}
    with asking(keep=kept.append) as client:
        assert client.get("/info").json()["judgements"] is True
        answer = client.post("/judgements", json=body)
        assert (answer.status_code, answer.content) == (204, b"")
        assert client.post(
            "/judgements", json={"query": "bread", "doc_id": "b", "relevance": 0, "kind": "click"}
        ).is_success
        for wrong in ({"relevance": 4}, {"relevance": None}, {"doc_id": ""}, {"kind": "guess"}, {"query": ""}):
            assert client.post("/judgements", json=body | wrong).status_code == 400
    assert kept == [Judged("1", "bread", "a", 2, "judgement"), Judged(None, "bread", "b", 0, "click")]
    with asking() as client:
        answer = client.post("/judgements", json=body)
    assert answer.status_code == 404
    assert "judgements=FILE" in answer.json()["error"]["message"]
