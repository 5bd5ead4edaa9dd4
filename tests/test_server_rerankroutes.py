"""The rerank APIs, each in its own words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from secondstage.calibration import Calibration
from secondstage.config import ServerConfig
from secondstage.serve.server.conventions import ask
from secondstage.serve.server.engine import Limits

from .serving import CountingModel, asking

DOCUMENTS = ["water", "bread bread bread", "bread"]
QUERY = "bread"
# Its logits are -1, 2, 0.
SCORES = [1 / (1 + math.exp(1)), 1 / (1 + math.exp(-2)), 0.5]
META = {"api_version": {"version": "1", "is_experimental": False}, "billed_units": {"search_units": 1}}
RERANK = ("/rerank", "/v1/rerank")


def body(**fields: Any) -> dict[str, Any]:
    return {"query": QUERY, "documents": DOCUMENTS} | fields


def ranks(results: list[dict[str, Any]], score: str = "relevance_score") -> list[float]:
    """Index, score, index, score, …."""
    return [value for result in results for value in (result["index"], result[score])]


BEST_FIRST = [1, SCORES[1], 2, SCORES[2], 0, SCORES[0]]


def test_cohere_2() -> None:
    with asking() as client:
        answer = client.post("/v2/rerank", json=body(model="rerank-v3.5", max_tokens_per_doc=4096, priority=0))
    assert answer.status_code == 200
    found = answer.json()
    assert set(found) == {"id", "results", "meta"}
    assert ranks(found["results"]) == pytest.approx(BEST_FIRST)
    assert set(found["results"][0]) == {"index", "relevance_score"}
    assert found["meta"] == META | {"api_version": {"version": "2", "is_experimental": False}}


@pytest.mark.parametrize("path", RERANK)
def test_jina_vllm_and_cohere_1_share_an_answer(path: str) -> None:
    with asking() as client:
        found = client.post(path, json=body(model="any")).json()
    assert ranks(found["results"]) == pytest.approx(BEST_FIRST)
    assert [result["document"] for result in found["results"]] == [{"text": DOCUMENTS[i]} for i in (1, 2, 0)]
    assert found["model"] == "tiny"
    # 1 token of the query, 3 of the template, and those of the documents.
    assert found["usage"] == {"prompt_tokens": 17, "total_tokens": 17}
    assert found["meta"] == META
    assert found["object"] == "rerank"


@pytest.mark.parametrize("path", RERANK)
def test_documents_may_be_objects(path: str) -> None:
    documents = [{"text": "bread"}, {"title": "bread bread", "text": "water"}, "bread bread bread", {"other": "bread"}]
    with asking() as client:
        by_text = client.post(path, json=body(documents=documents)).json()["results"]
        fields = {"rank_fields": ["title", "text"], "return_documents": False}
        by_fields = client.post(path, json=body(documents=documents) | fields).json()["results"]
    assert [result["index"] for result in by_text] == [2, 0, 3, 1]
    assert by_text[3]["document"] == documents[1]
    assert by_text[2]["document"] == {"text": "bread", "other": "bread"}
    assert [result["index"] for result in by_fields] == [2, 1, 0, 3]
    assert "document" not in by_fields[0]


@pytest.mark.parametrize("path", RERANK)
def test_fields_that_no_document_has_are_passed_over(path: str) -> None:
    documents = [{"text": "water", "title": "bread"}, {"text": "bread bread"}]
    with asking() as client:

        def order(*fields: str) -> list[int]:
            found = client.post(path, json=body(documents=documents, rank_fields=fields)).json()["results"]
            return [result["index"] for result in found]

        assert order("titel") == order("text") == [1, 0]
        assert order("titel", "title") == [0, 1]


@pytest.mark.parametrize("given", [{}, {"max_tokens_per_doc": None}, {"max_tokens_per_doc": 7}])
def test_cohere_2_reads_so_many_tokens_of_a_document(given: dict[str, Any]) -> None:
    read = given.get("max_tokens_per_doc") or 4096
    assert ask("cohere", body(**given), ServerConfig()).limits == Limits(None, read)
    long = " ".join(["bread"] * 10)
    with asking() as client:
        found = client.post("/v2/rerank", json={"query": "bread", "documents": [long]} | given).json()
    assert found["results"][0]["relevance_score"] == pytest.approx(1 / (1 + np.exp(1 - min(10, read))))


def test_infinity() -> None:
    with asking(prefix="/infinity") as client:
        found = client.post("/infinity/rerank", json=body(return_documents=True)).json()
        raw = client.post("/infinity/rerank", json=body(raw_scores=True, top_n=1)).json()
    assert set(found) == {"object", "id", "created", "model", "usage", "results"}
    assert ranks(found["results"]) == pytest.approx(BEST_FIRST)
    assert [result["document"] for result in found["results"]] == [DOCUMENTS[i] for i in (1, 2, 0)]
    assert raw["results"] == [{"index": 1, "relevance_score": 2.0}]


def test_documents_as_strings_are_a_setting() -> None:
    with asking(return_document="string") as client:
        assert "document" not in client.post("/rerank", json=body()).json()["results"][0]
        found = client.post("/rerank", json=body(return_documents=True)).json()["results"]
        assert client.post("/infinity/rerank", json=body()).status_code == 404
    assert [result["document"] for result in found] == [DOCUMENTS[i] for i in (1, 2, 0)]


@pytest.mark.parametrize("path", [*RERANK, "/v2/rerank"])
def test_tei_is_known_by_its_texts(path: str) -> None:
    with asking() as client:
        found = client.post(path, json={"query": QUERY, "texts": DOCUMENTS}).json()
        raw = client.post(path, json={"query": QUERY, "texts": DOCUMENTS, "raw_scores": True, "return_text": True})
    assert ranks(found, "score") == pytest.approx(BEST_FIRST)
    assert raw.json() == [
        {"index": 1, "score": 2.0, "text": DOCUMENTS[1]},
        {"index": 2, "score": 0.0, "text": DOCUMENTS[2]},
        {"index": 0, "score": -1.0, "text": DOCUMENTS[0]},
    ]


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
def test_vllm_score_keeps_the_order(path: str) -> None:
    with asking() as client:
        one = client.post(path, json={"text_1": QUERY, "text_2": DOCUMENTS}).json()
        named = client.post(path, json={"queries": [QUERY], "documents": "bread"}).json()
        several = client.post(path, json={"text_1": ["water", "bread"], "text_2": ["water", "water"]}).json()
        logits = client.post(path, json={"text_1": QUERY, "text_2": DOCUMENTS, "use_activation": False}).json()
        uneven = client.post(path, json={"text_1": ["a", "b"], "text_2": ["a", "b", "c"]})
    assert ranks(one["data"], "score") == pytest.approx([0, SCORES[0], 1, SCORES[1], 2, SCORES[2]])
    assert one["object"] == "list"
    assert one["data"][0]["object"] == "score"
    assert one["usage"]["total_tokens"] == 17
    assert ranks(named["data"], "score") == [0, 0.5]
    assert ranks(several["data"], "score") == pytest.approx([0, 0.5, 1, SCORES[0]])
    assert ranks(logits["data"], "score") == [0, -1.0, 1, 2.0, 2, 0.0]
    assert uneven.status_code == 400
    assert "text_1 has 2 texts and text_2 3" in uneven.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "field", "top_n", "count"),
    [
        ("/v2/rerank", "documents", 2, 2),
        ("/v2/rerank", "documents", 99, 3),
        ("/v1/rerank", "documents", 0, 3),
        ("/rerank", "documents", 1, 1),
        ("/rerank", "documents", 10**30, 3),
        ("/rerank", "documents", 1.0, 1),
        ("/rerank", "documents", None, 3),
        ("/rerank", "texts", 1, 3),
    ],
)
def test_top_n(path: str, field: str, top_n: object, count: int) -> None:
    with asking() as client:
        found = client.post(path, json={"query": QUERY, field: DOCUMENTS, "top_n": top_n, "unknown": [None]}).json()
    assert len(found if field == "texts" else found["results"]) == count


def test_scores_are_a_setting() -> None:
    """A probability is that of the calibration, whose share in the list is that of the query's own list."""
    share = Calibration("platt", 1.0, 0.0, basis="list")
    total = sum(math.exp(logit) for logit in (-1, 2, 0))
    shares = [math.exp(logit) / total for logit in (-1, 2, 0)]
    for model, scores, expected in (
        (CountingModel(), "logit", [-1, 2, 0]),
        (CountingModel(), "probability", SCORES),
        (CountingModel(calibration=share), "probability", [1 / (1 + 1 / share) for share in shares]),
        (CountingModel(calibration=share), "sigmoid", SCORES),
    ):
        with asking(model, scores=scores) as client:
            found = client.post("/score", json={"text_1": QUERY, "text_2": DOCUMENTS}).json()["data"]
        assert [result["score"] for result in found] == pytest.approx(expected)


def test_what_is_to_be_cut_is_cut() -> None:
    documents = ["water bread bread", "bread"]
    with asking() as client:
        whole = client.post("/rerank", json=body(documents=documents)).json()
        cut = client.post("/rerank", json=body(documents=documents, max_tokens_per_doc=1)).json()
        assert [result["index"] for result in cut["results"]] == [1, 0]
        assert cut["usage"]["total_tokens"] == whole["usage"]["total_tokens"] - 2
        long = "water " * 30
        most = client.post("/rerank", json=body(documents=[long], truncate_prompt_tokens=20)).json()
        assert most["usage"]["total_tokens"] == 20
        assert client.post("/rerank", json=body(documents=[long * 9])).json()["usage"]["total_tokens"] == 64
        score = {"text_1": QUERY, "text_2": long, "truncate_prompt_tokens": 20}
        assert client.post("/score", json=score).json()["usage"]["total_tokens"] == 20


def test_documents_that_are_too_long_are_cut_or_refused_as_the_api_does() -> None:
    long = "bread " * 30
    with asking(max_characters=100, prefix="/infinity") as client:
        for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
            assert client.post(path, json=body(documents=[long])).status_code == 200
        assert client.post("/rerank", json={"query": QUERY, "texts": [long], "truncate": True}).status_code == 200
        refused = client.post("/rerank", json={"query": QUERY, "texts": ["a", long], "truncate": False})
        assert refused.status_code == 422
        assert refused.json()["error"].startswith("texts.1: has 180 characters, and may have 100")
        assert client.post("/infinity/rerank", json=body(documents=[long])).status_code == 422
        score = {"text_1": QUERY, "text_2": long}
        assert client.post("/score", json=score).status_code == 400
        assert client.post("/score", json=score | {"truncate_prompt_tokens": -1}).status_code == 200


def test_a_document_of_a_megabyte_is_cut_to_what_the_model_reads() -> None:
    with asking() as client:
        answer = client.post("/v2/rerank", json=body(documents=["bread " * 200_000, "water"]))
    assert answer.status_code == 200
    assert [result["index"] for result in answer.json()["results"]] == [0, 1]
