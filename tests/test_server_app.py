"""What all routes share: keys, origins, unknown paths, the documents of the API."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from secondstage.version import __version__

from .serving import CountingModel, asking, make_service

BODY = {"query": "bread", "documents": ["bread"]}


def test_probes() -> None:
    with asking() as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").json() == {"status": "ready"}
        app: Any = client.app
    assert app.title == "secondstage"


def test_a_server_that_stops_refuses_and_closes_connections() -> None:
    from secondstage.serve.server.app import make_app

    service = make_service(prefix="/infinity")
    with TestClient(make_app(service)) as client:
        assert "connection" not in client.get("/ready").headers
        service.draining = True
        ready = client.get("/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "stopping"})
        assert client.get("/health").status_code == 200
        for path, body in (("/v2/rerank", BODY), ("/infinity/rerank", BODY), ("/search", {"query": "a"})):
            answer = client.post(path, json=body)
            assert answer.status_code == 503
            assert answer.headers["connection"] == "close"
            assert "stopping" in answer.text


def test_keys() -> None:
    with asking(keys=["s3cret", "other"], prefix="/infinity") as client:
        for path in ("/rerank", "/v1/rerank", "/v2/rerank", "/score", "/infinity/rerank", "/search", "/judgements"):
            for header in (None, "s3cret", "Bearer", "Bearer s3cre", "Bearer s3crets", "Basic s3cret", "Bearer \u00e9"):
                headers = [] if header is None else [(b"Authorization", header.encode())]
                answer = client.post(path, json=BODY, headers=headers)
                assert answer.status_code == 401, (path, header)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "key" in answer.text
        for header in ("Bearer s3cret", "bearer other"):
            assert client.post("/rerank", json=BODY, headers={"Authorization": header}).status_code == 200
            assert client.get("/metrics", headers={"Authorization": header}).status_code == 200
        for path in ("/info", "/metrics"):
            assert client.get(path).status_code == 401
        for path in ("/health", "/ready", "/openapi.json", "/docs"):
            assert client.get(path).status_code == 200


def test_origins() -> None:
    ask = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    with asking() as client:
        assert client.options("/search", headers=ask).status_code == 405
        assert "access-control-allow-origin" not in client.get("/health", headers=ask).headers
    with asking(cors=("https://a.example",)) as client:
        assert client.options("/search", headers=ask).headers["access-control-allow-origin"] == "https://a.example"
        other = client.options("/search", headers=ask | {"Origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers


def test_what_is_not_there() -> None:
    with asking() as client:
        missing = client.get("/nothing")
        assert (missing.status_code, missing.json()["error"]["message"]) == (404, "Not Found")
        wrong = client.get("/search")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
        assert client.post("/search/", json={"query": "a"}).status_code == 404


def test_info() -> None:
    with asking(max_documents=7, model="named") as client:
        found = client.get("/info").json()
    assert (found["name"], found["version"], found["documents"], found["depth"]) == ("named", __version__, 3, 3)
    assert found["limits"]["max_documents"] == 7
    assert found["judgements"] is False


def test_info_names_the_engine_that_computes() -> None:
    model = CountingModel()
    model.engine = "openvino-int8"
    for given, backend in ((model, "openvino-int8"), (CountingModel(), "torch")):
        with asking(given) as client:
            assert client.get("/info").json()["backend"] == backend


def test_the_openapi_document_has_the_limits() -> None:
    with asking(max_documents=7, max_query_characters=8, prefix="/infinity") as client:
        document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for name in ("CohereRerank", "InfinityRerank"):
        assert schemas[name]["properties"]["documents"]["maxItems"] == 7
    for name in ("CohereRerank", "Rerank", "InfinityRerank"):
        assert schemas[name]["properties"]["query"]["maxLength"] == 8
    # Too many are answered by 413, which is no invalid body.
    assert "maxItems" not in schemas["TeiRerank"]["properties"]["texts"]
    body = document["paths"]["/rerank"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("Rerank", "TeiRerank")]}
    assert "503" in document["paths"]["/v2/rerank"]["post"]["responses"]
    for path in ("/search", "/judgements", "/score", "/infinity/rerank"):
        (header,) = document["paths"][path]["post"]["parameters"]
        assert (header["name"], header["in"]) == ("X-Deadline-Ms", "header")


@pytest.mark.parametrize("prefix", ["infinity", "/infinity/", "/a b", "/../x?", "/v1", "/v2"])
def test_a_prefix_is_a_path(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        make_service(prefix=prefix)


def test_the_answer_to_a_request_says_its_id() -> None:
    """Its own, whatever it came with: whoever repeats one would have clicks weighed against another search's list."""
    given = {"X-Request-Id": "given"}
    with asking() as client:
        search = client.post("/search", json={"query": "bread"}, headers=given)
        assert search.headers["X-Request-Id"] == search.json()["id"] != "given"
        for body in ({"query": "bread", "texts": ["a"]}, {}):
            assert client.post("/rerank", json=body, headers=given).headers["X-Request-Id"] not in ("", "given")
