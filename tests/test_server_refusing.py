"""Bad input: each API's own status and words, and nothing of the inside."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from secondstage.errors import UnreachableError
from secondstage.run import Scores
from secondstage.serve.server import conventions
from secondstage.serve.server.batcher import Batcher
from secondstage.serve.server.conventions import _faults
from secondstage.serve.server.errors import OverloadedError

from .serving import BROKEN, CountingModel, ThreePipeline, asking

# Where each API is, and how it calls the texts.
PATHS = {
    "cohere": ("/v2/rerank", "query", "documents"),
    "rerank": ("/v1/rerank", "query", "documents"),
    "vllm": ("/rerank", "query", "documents"),
    "tei": ("/rerank", "query", "texts"),
    "infinity": ("/infinity/rerank", "query", "documents"),
    "score": ("/score", "text_1", "text_2"),
}
EVERY = sorted(PATHS)


def send(client: TestClient, api: str, query: object = "bread", texts: object = ("bread",), **fields: Any) -> Any:
    path, query_name, texts_name = PATHS[api]
    body = {query_name: query, texts_name: list(texts) if isinstance(texts, tuple) else texts, **fields}
    return client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})


def words(api: str, answer: Any) -> str:
    """What went wrong, from where clients of the API look for it; the shape is checked on the way."""
    found = answer.json()
    if api == "tei":
        assert set(found) == {"error", "error_type"}
        return str(found["error"])
    if api == "cohere":
        assert set(found) == {"id", "message"}
        return str(found["message"])
    assert set(found["error"]) == {"message", "type", "param", "code"}
    assert found["error"]["code"] == answer.status_code
    if api in ("rerank", "vllm"):
        assert found["detail"] == found["message"] == found["error"]["message"]
    if api == "infinity" and answer.status_code == 422:
        assert found["detail"][0]["msg"] == found["error"]["message"]
        assert found["detail"][0]["loc"][0] == "body"
    return str(found["error"]["message"])


@pytest.fixture(scope="module")
def client() -> Any:
    with asking(prefix="/infinity", max_documents=100, max_query_characters=50, max_body_mib=1) as client:
        yield client


@pytest.mark.parametrize(
    ("api", "status", "text"),
    [
        ("cohere", 400, "invalid request: query must not be empty or be only whitespace"),
        ("rerank", 400, "query: must not be empty or be only whitespace"),
        ("vllm", 400, "query: must not be empty or be only whitespace"),
        ("tei", 400, "`query` cannot be empty"),
        ("infinity", 422, "query: must not be empty or be only whitespace"),
    ],
)
@pytest.mark.parametrize("query", ["", " \n"])
def test_an_empty_query(client: TestClient, api: str, status: int, text: str, query: str) -> None:
    answer = send(client, api, query)
    assert (answer.status_code, words(api, answer)) == (status, text)


@pytest.mark.parametrize(
    ("api", "status", "text"),
    [
        ("cohere", 400, "invalid request: list of documents must not be empty"),
        ("rerank", 400, "documents: list should have at least 1 item after validation, not 0"),
        ("tei", 400, "`texts` cannot be empty"),
        ("infinity", 422, "documents: list should have at least 1 item after validation, not 0"),
        ("score", 400, "text_2: list should have at least 1 item after validation, not 0"),
    ],
)
def test_no_documents(client: TestClient, api: str, status: int, text: str) -> None:
    answer = send(client, api, texts=[])
    assert (answer.status_code, words(api, answer)) == (status, text)
    if api == "tei":
        assert answer.json()["error_type"] == "Empty"


@pytest.mark.parametrize(
    ("api", "status"), [("cohere", 400), ("rerank", 413), ("tei", 413), ("infinity", 422), ("score", 413)]
)
def test_too_many_documents(client: TestClient, api: str, status: int) -> None:
    answer = send(client, api, texts=["a"] * 10_000)
    assert answer.status_code == status
    assert "there are 10000, and a request may have 100: split it" in words(api, answer)


@pytest.mark.parametrize("api", EVERY)
def test_wrong_types_and_nulls(client: TestClient, api: str) -> None:
    status = 422 if api in ("tei", "infinity") else 400
    for query, texts in (
        (None, ["a"]),
        (1, ["a"]),
        (["a", 1], ["a"]),
        ("a", None),
        ("a", [None]),
        ("a", [1]),
        ("a", 5),
    ):
        answer = send(client, api, query, texts)
        assert answer.status_code == status, (query, texts)
        assert "valid" in words(api, answer)
    if api not in ("tei", "score"):
        for top_n in ("1", True, -1, 1.5):
            assert send(client, api, top_n=top_n).status_code == status, top_n
    if api in ("cohere", "infinity"):
        answer = send(client, api, top_n=0)
        assert answer.status_code == status
        assert "top_n" in words(api, answer)
    path, *_ = PATHS[api]
    assert client.post(path, json={"texts": ["a"]} if api == "tei" else {}).status_code == status
    assert send(client, api, unknown={"a": [None]}).status_code == 200


@pytest.mark.parametrize("api", EVERY)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b'"text"',
        b"\xff\xfe{}",
        b'{"query": "a", "documents": ["a"], "x": NaN}',
        b'{"query": "a", "documents": ["a"], "x": -Infinity}',
        b'{"query": "\\ud800", "documents": ["a"]}',
        b'{"query": "a", "documents": ["\\udc00 a"]}',
        b'{"query": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["empty", "open", "list", "null", "text", "utf-16", "nan", "infinity", "surrogate", "surrogate-2", "deep"],
)
def test_no_json(client: TestClient, api: str, content: bytes) -> None:
    answer = client.post(PATHS[api][0], content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == (422 if api == "infinity" else 400)
    # What is no JSON cannot be known to be TEI's.
    assert "JSON" in words("vllm" if api == "tei" else api, answer)


def test_another_content_type(client: TestClient) -> None:
    """A page of another origin cannot send JSON without asking first, but a form it can."""
    for media in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = client.post("/rerank", content=b'{"query": "a", "documents": ["a"]}', headers={"Content-Type": media})
        assert answer.status_code == 415
        assert "Content-Type" in words("rerank", answer)
    answer = client.post(
        "/rerank",
        content=b'{"query": "a", "documents": ["a"]}',
        headers={"Content-Type": "application/json; charset=utf-8"},
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("api", sorted({*EVERY} - {"score"}))
def test_a_query_that_is_too_long(client: TestClient, api: str) -> None:
    answer = send(client, api, "bread " * 20)
    assert answer.status_code == (422 if api in ("tei", "infinity") else 400)
    assert "120 characters, and may have 50" in words(api, answer)


@pytest.mark.parametrize("api", EVERY)
def test_a_body_that_is_too_large(client: TestClient, api: str) -> None:
    """By its length, or chunk by chunk: no more is read than is allowed."""
    path, *_ = PATHS[api]
    sent = []

    def endless() -> Any:
        yield b'{"query": "'
        for _ in range(1000):
            sent.append(1)
            yield b"a" * 65_536

    known = client.post(path, content=b" " * (1 << 20) + b"{}", headers={"Content-Type": "application/json"})
    chunked = client.post(path, content=endless(), headers={"Content-Type": "application/json"})
    for answer in (known, chunked):
        assert answer.status_code == 413
        assert "1 MiB" in words("vllm" if api == "tei" else api, answer)


@pytest.mark.parametrize(
    ("api", "status"), [("cohere", 500), ("rerank", 500), ("tei", 424), ("infinity", 500), ("score", 500)]
)
def test_a_broken_model_is_an_error_and_never_a_result(client: TestClient, api: str, status: int) -> None:
    answer = send(client, api, texts=["bread", BROKEN])
    assert answer.status_code == status
    assert words(api, answer) == "the model gave no finite score for this request"
    if api == "tei":
        assert answer.json()["error_type"] == "Backend"
    assert send(client, api, texts=["bread"]).status_code == 200


@pytest.mark.parametrize("api", EVERY)
def test_a_deadline_that_has_passed(api: str) -> None:
    path, query, texts = PATHS[api]
    with asking(CountingModel(seconds=0.2), prefix="/infinity") as client:
        late = client.post(path, json={query: "a", texts: ["a"]}, headers={"X-Deadline-Ms": "20"})
        assert late.status_code == 504
        assert "deadline" in words(api, late)
        for wrong in ("soon", "-1", "nan", "inf", "0"):
            answer = client.post(path, json={query: "a", texts: ["a"]}, headers={"X-Deadline-Ms": wrong})
            assert answer.status_code == (422 if api == "infinity" else 400)
        assert client.post(path, json={query: "a", texts: ["a"]}, headers={"X-Deadline-Ms": "5000"}).is_success


def test_a_deadline_that_has_passed_already_is_no_slow_body(client: TestClient) -> None:
    body = {"query": "a", "documents": ["a"]}
    assert client.post("/rerank", json=body, headers={"X-Deadline-Ms": "0.000001"}).status_code == 504


def test_a_client_may_ask_for_less_time_and_not_for_more() -> None:
    with asking(CountingModel(seconds=0.5), deadline_ms=20) as client:
        body = {"query": "a", "documents": ["a"]}
        assert client.post("/rerank", json=body, headers={"X-Deadline-Ms": "60000"}).status_code == 504


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/rerank", {"query": "a", "documents": [1] * 5000}),
        ("/rerank", {"query": "a", "documents": [{"text": 1}] * 5000}),
        ("/rerank", {"query": "a", "documents": [{str(i): 1 for i in range(5000)}]}),
        ("/rerank", {"query": "a", "documents": ["a"], "rank_fields": [1] * 5000}),
        ("/rerank", {"query": "a", "texts": [1] * 5000}),
        ("/infinity/rerank", {"query": "a", "documents": [1] * 5000}),
        ("/score", {"text_1": [1] * 5000, "text_2": [1] * 5000}),
        ("/search", {"query": "a", **{str(i): 1 for i in range(5000)}}),
        ("/search", {"query": "a", "where": {str(i): None for i in range(5000)}}),
        ("/search", {"query": "a", "where": {"year": [None] * 5000}}),
    ],
)
def test_a_body_full_of_faults_is_refused_at_the_first(
    path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them would be held in memory, and found while no other request is answered."""
    counts: list[int] = []

    def counted(error: ValidationError) -> dict[str, Any]:
        counts.append(error.error_count())
        return _faults(error)

    monkeypatch.setattr(conventions, "_faults", counted)
    with asking(prefix="/infinity", max_documents=10_000) as client:
        answer = client.post(path, json=body)
    assert answer.status_code in (400, 422)
    # A body that has too many fields itself is not even looked at.
    assert len(counts) == (len(body) < 5000)
    assert sum(counts) <= 10
    assert len(answer.content) < 1000


def test_texts_are_counted_before_anything_is_made_of_them(client: TestClient) -> None:
    for path, body in (
        ("/rerank", {"query": "a", "documents": [1] * 101}),
        ("/score", {"queries": "a", "documents": [1] * 101}),
    ):
        assert client.post(path, json=body).status_code == 413


def test_bodies_under_way_are_bounded_together() -> None:
    """The queue sees a request only once its body was read."""
    body = {"query": "a", "documents": ["a " * 300_000]}
    entered, gate = threading.Event(), threading.Event()

    class Gated(CountingModel):
        def logits(self, features: Mapping[str, Any]) -> Scores:
            entered.set()
            assert gate.wait(30)
            return super().logits(features)

    with (
        asking(Gated(), max_body_mib=1, max_bodies_mib=1.0, max_characters=10) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(client.post, "/rerank", json=body)
        assert entered.wait(60)
        refused = client.post("/rerank", json=body)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        gate.set()
        assert first.result().status_code == 200
        assert client.post("/rerank", json=body).status_code == 200


def test_what_the_server_asks_itself_and_gets_no_answer_is_no_fault_of_the_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def down(*arguments: object) -> None:
        raise UnreachableError("Milvus at http://milvus.internal:19530: no route")

    monkeypatch.setattr(ThreePipeline, "asking", down)
    with asking() as client:
        answer = client.post("/search", json={"query": "a"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json()["error"]["message"] == "the first stage does not answer: try again later"
    assert "milvus.internal" in caplog.text


@pytest.mark.parametrize("side", ["text_1", "queries"])
def test_a_query_of_pairs_is_no_longer_than_any_other(client: TestClient, side: str) -> None:
    other = {"text_1": "text_2", "queries": "documents"}[side]
    for texts in ("a" * 51, ["a", "a" * 51]):
        answer = client.post("/score", json={side: texts, other: ["a", "a"]})
        assert answer.status_code == 400
        assert words("score", answer).startswith(f"{side}: has 51 characters, and may have 50")


@pytest.mark.parametrize("api", EVERY)
def test_an_overloaded_server(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*pairs: object, **settings: object) -> None:
        raise OverloadedError(7)

    monkeypatch.setattr(Batcher, "score", full)
    with asking(prefix="/infinity") as client:
        answer = send(client, api)
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "7"
    assert words(api, answer) == "the server is overloaded: try again in 7 s"
    if api == "tei":
        assert answer.json()["error_type"] == "Overloaded"


@pytest.mark.parametrize("api", EVERY)
def test_a_request_that_no_queue_can_hold(api: str) -> None:
    with asking(CountingModel(max_length=512), queue_tokens=1024, prefix="/infinity") as client:
        answer = send(client, api, texts=["a " * 500] * 3)
    assert answer.status_code == 413
    assert "more than the 1024 that may wait" in words(api, answer)


@pytest.mark.parametrize("api", EVERY)
def test_a_fault_within_is_not_told(
    api: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(*pairs: object, **settings: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(Batcher, "score", fails)
    with asking(prefix="/infinity") as client:
        answer = send(client, api)
    assert answer.status_code == (424 if api == "tei" else 500)
    assert words(api, answer) == "the server failed on this request"
    assert "secret" not in answer.text
    assert "secret" in caplog.text
