"""The remote scorer against a server on the loopback interface that speaks a rerank API's shape, well or badly."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.collection import Documents
from secondstage.config import RemoteConfig
from secondstage.errors import UserError
from secondstage.remote import RemoteReranker, grouped, keep_remote_scores
from secondstage.run import Run, rank
from secondstage.scorecache import CachedScorer, read_scores
from secondstage.scoring import Random, rerank

from .conftest import serving
from .server import Answer, JsonServer, first

KEY = "sk-3cret/Key+0123456789="
PAIRS = [(f"query {i % 5}", f"document {i}") for i in range(47)]


def scored_by_seed(body: dict[str, Any]) -> object:
    """Scores as `Random(1)` does, best first."""
    scores = Random(1).score([(body["query"], document) for document in body["documents"]])
    results = [{"index": i, "relevance_score": float(scores[i])} for i in np.argsort(-scores).tolist()]
    return {"id": "x", "results": results[: body["top_n"]]}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_KEY", KEY)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture
def api() -> Iterator[JsonServer]:
    server = JsonServer("/v2/rerank", scored_by_seed)
    with serving(server):
        yield server


def remote(server: JsonServer, price: float = 0.0, **settings: Any) -> RemoteReranker:
    config = RemoteConfig(url=server.url, model="rerank-x", api_key_env="RERANK_KEY", **settings)
    return RemoteReranker(config, price=price, backoff=0.001)


def attempts(scorer: RemoteReranker) -> tuple[int, int]:
    """How many requests it sent, and how many of them were repetitions."""
    report = scorer.report()
    return report["requests"], report["retries"]


def failure(scorer: RemoteReranker, pairs: Sequence[tuple[str, str]] = PAIRS[:1]) -> str:
    with pytest.raises(UserError) as caught:
        scorer.score(pairs)
    return str(caught.value)


def test_scores_come_back_in_the_order_of_the_pairs(api: JsonServer) -> None:
    scorer = remote(api, documents_per_request=3)
    scores = scorer.score(PAIRS)
    assert scores.dtype == np.float32
    assert scores.tolist() == Random(1).score(PAIRS).tolist()
    # Queries 0 and 1 have ten documents, the others nine.
    assert Counter(len(body["documents"]) for body in api.seen) == {3: 15, 1: 2}
    assert Counter(body["query"] for body in api.seen) == {f"query {i}": 3 + (i < 2) for i in range(5)}
    assert {(body["path"], body["model"]) for body in api.seen} == {("/v2/rerank", "rerank-x")}
    assert all(body["top_n"] == len(body["documents"]) for body in api.seen)
    assert api.keys == {f"Bearer {KEY}"}
    assert (*attempts(scorer), scorer.documents) == (17, 0, 47)
    assert 0 < scorer.seconds < 60


def test_without_a_model_or_a_key_neither_is_sent(api: JsonServer) -> None:
    RemoteReranker(RemoteConfig(url=api.url)).score(PAIRS[:1])
    assert api.keys == {None}
    assert api.seen[0].keys() == {"path", "query", "documents", "top_n"}


def test_no_pairs_are_no_requests(api: JsonServer) -> None:
    assert remote(api).score([]).shape == (0,)
    assert api.seen == []


def test_as_many_requests_as_allowed_are_under_way_at_a_time(api: JsonServer) -> None:
    full = threading.Barrier(3)

    def together(server: JsonServer, body: dict[str, Any]) -> None:
        full.wait(timeout=10)

    api.misbehave = together
    remote(api, documents_per_request=1, concurrency=3).score(PAIRS[:12])
    assert api.most_under_way == 3


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
def test_a_busy_server_is_asked_again(status: int, api: JsonServer) -> None:
    api.misbehave = first(3, (status, b"busy", {"Retry-After": "0"}))
    scorer = remote(api, documents_per_request=5)
    assert scorer.score(PAIRS).tolist() == Random(1).score(PAIRS).tolist()
    assert (*attempts(scorer), scorer.documents) == (13, 3, 47)


def test_a_server_that_never_recovers_is_given_up(api: JsonServer) -> None:
    api.misbehave = first(99, (500, b"out of memory", {}))
    scorer = remote(api, retries=2)
    message = failure(scorer)
    assert message.startswith(f"{api.url}: status 500, 'out of memory', in 3 attempts; check that the server runs")
    assert (*attempts(scorer), scorer.documents) == (3, 2, 0)


def test_the_first_failure_ends_the_waiting_of_other_requests(api: JsonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Event()
    waits: list[tuple[float | None, bool]] = []

    class Noting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waiting.set()
            waits.append((timeout, super().wait(timeout)))
            return waits[-1][1]

    def one_bad_others_busy(server: JsonServer, body: dict[str, Any]) -> Answer:
        if body["query"] != "query 3":
            return 429, b"", {"Retry-After": "60"}
        assert waiting.wait(timeout=30)
        return 404, b"no", {}

    api.misbehave = one_bad_others_busy
    monkeypatch.setattr("secondstage.endpoint.Event", Noting)
    assert "status 404" in failure(remote(api, concurrency=5), PAIRS)
    assert set(waits) == {(60, True)}  # none to its end


def test_a_slow_answer_is_asked_for_again(api: JsonServer) -> None:
    again = threading.Event()

    def no_answer_before_the_second_request(server: JsonServer, body: dict[str, Any]) -> None:
        if len(server.seen) > 1:
            again.set()
        assert again.wait(timeout=10)

    api.misbehave = no_answer_before_the_second_request
    scorer = remote(api, timeout=1.0, retries=9)
    assert scorer.score(PAIRS[:1]).tolist() == Random(1).score(PAIRS[:1]).tolist()
    assert attempts(scorer)[1] >= 1


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        # Bound, but not listened to.
        url = f"http://127.0.0.1:{free.getsockname()[1]}/rerank"
        message = failure(RemoteReranker(RemoteConfig(url=url, retries=1), backoff=0.001))
    assert message.startswith(f"{url}: ")
    assert "in 2 attempts; check that the server runs" in message


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (301, "check the URL"),
        (400, "the name of the model"),
        (401, "read from RERANK_KEY"),
        (403, "read from RERANK_KEY"),
        (404, "check the URL"),
        (413, "lower document_words or documents_per_request"),
        (422, "a content filter"),
    ],
)
def test_a_refusal_is_final_and_tells_the_way_out(status: int, hint: str, api: JsonServer) -> None:
    api.misbehave = first(99, (status, b"because " + b"x" * 500, {}))
    message = failure(remote(api))
    assert message.startswith(f"{api.url}: status {status}, 'because {'x' * 192}'; ")
    assert hint in message
    assert len(api.seen) == 1


def test_a_key_that_the_server_repeats_is_not_shown(api: JsonServer) -> None:
    # Cut after 200 characters, half of the key would be left: it is taken out before.
    api.misbehave = first(99, (401, b"x" * 190 + KEY.encode(), {}))
    message = failure(remote(api))
    assert not any(KEY[i : i + 6] in message for i in range(len(KEY) - 5))


def results(*found: tuple[Any, Any]) -> bytes:
    return json.dumps({"results": [{"index": index, "relevance_score": score} for index, score in found]}).encode()


FAULTY = {
    "<html>": (b"<html>", "not JSON"),
    "not UTF-8": (b'{"results": "\xff"}', "not JSON"),
    "too deep": (b"[" * 100_000, "not JSON"),
    "a list": (b"[]", "no list of objects under 'results'"),
    "no results": (b'{"data": []}', "no list of objects under 'results'"),
    "bare scores": (b'{"results": [0.5, 0.4]}', "no list of objects under 'results'"),
    "one missing": (results((1, 0.5)), "1 of 2 documents have no result, document 0 first"),
    "all missing": (results(), "2 of 2 documents have no result, document 0 first"),
    "twice": (results((1, 0.5), (1, 0.5)), "document 1 has two results"),
    "too large": (results((0, 0.5), (2, 0.5)), "index 2, but 2 documents were sent"),
    "negative": (results((0, 0.5), (-1, 0.5)), "index -1, but 2"),
    "not whole": (results((0.0, 0.5), (1, 0.5)), "index 0.0, but 2"),
    "a boolean": (results((False, 0.5), (1, 0.5)), "index False, but 2"),
    "no index": (b'{"results": [{"relevance_score": 1}]}', "index None, but 2"),
    "NaN": (results((0, 0.5), (1, float("nan"))), "relevance_score of document 1 is no finite number: nan"),
    "infinity": (results((0, 0.5), (1, float("inf"))), "relevance_score of document 1 is no finite number: inf"),
    "double": (results((0, 1e300), (1, 0.5)), "relevance_score of document 0 is no finite number: 1e+300"),
    "huge": (results((0, 10**400), (1, 0.5)), "relevance_score of document 0 is no finite number: 1000"),
    "a string": (results((0, "0.5"), (1, 0.5)), "relevance_score of document 0 is no finite number: '0.5'"),
    "true": (results((0, True), (1, 0.5)), "relevance_score of document 0 is no finite number: True"),
    "null": (results((0, None), (1, 0.5)), "relevance_score of document 0 is no finite number: None"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_answer_is_refused_with_what_is_wrong(name: str, api: JsonServer) -> None:
    content, fault = FAULTY[name]
    api.misbehave = first(99, (200, content, {}))
    message = failure(remote(api), [("q", "one"), ("q", "two")])
    assert message.startswith(f"{api.url}: ")
    assert fault in message
    assert "Cohere" in message
    assert len(message) < 400
    assert len(api.seen) == 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.just(""))), st.integers(1, 4))
def test_groups_hold_every_pair_once_with_those_of_its_query(pairs: list[tuple[str, str]], size: int) -> None:
    groups = list(grouped(pairs, size))
    assert sorted(i for _, places in groups for i in places) == list(range(len(pairs)))
    assert all(pairs[i][0] == query for query, places in groups for i in places)
    assert all(1 <= len(places) <= size for _, places in groups)
    full = Counter(query for query, _ in pairs)
    assert Counter(query for query, _ in groups) == {query: -(-count // size) for query, count in full.items()}


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8080/rerank", "ftp://host/rerank", "https://", "https://user:secret@host/rerank",
     "https://secret@host/rerank", "https://host:port/rerank", "https://host/re rank"],
)  # fmt: skip
def test_what_is_no_address_or_holds_a_key_is_refused_unseen(url: str) -> None:
    with pytest.raises(UserError, match="has an address such as") as caught:
        RemoteReranker(RemoteConfig(url=url))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_KEY", key)
    with pytest.raises(UserError, match="API key for http://host/rerank") as caught:
        RemoteReranker(RemoteConfig(url="http://host/rerank", api_key_env="RERANK_KEY"))
    assert key not in str(caught.value)


def test_the_key_is_read_from_the_variable_named(api: JsonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_KEY", f"{KEY}\n")
    RemoteReranker(RemoteConfig(url=api.url, model="m", api_key_env="RERANK_KEY", timeout=5.0)).score(PAIRS[:1])
    assert api.keys == {f"Bearer {KEY}"}
    RemoteReranker(RemoteConfig(url=api.url)).score(PAIRS[:1])
    assert api.keys == {f"Bearer {KEY}", None}


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_variable_that_is_named_must_be_set(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RERANK_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("RERANK_KEY", value)
    with pytest.raises(UserError, match="environment variable RERANK_KEY is not set"):
        RemoteReranker(RemoteConfig(url="http://host/rerank", model="m", api_key_env="RERANK_KEY"))


def test_a_key_given_for_the_name_of_its_variable_is_not_shown() -> None:
    with pytest.raises(UserError, match="variable that api_key_env names is not set") as caught:
        RemoteReranker(RemoteConfig(url="http://host/rerank", model="m", api_key_env=KEY))
    assert KEY not in str(caught.value)


def test_cached_remote_scores_are_paid_for_once(api: JsonServer, tmp_path: Path) -> None:
    for _ in range(2):
        scorer = remote(api)
        assert CachedScorer(scorer, tmp_path / "scores").score(PAIRS * 2).tolist() == (
            Random(1).score(PAIRS * 2).tolist()
        )
    assert sum(len(body["documents"]) for body in api.seen) == len(PAIRS)


def test_an_error_leaves_every_answered_score_in_the_cache(api: JsonServer, tmp_path: Path) -> None:
    api.misbehave = lambda server, body: (404, b"no", {}) if "document 23" in body["documents"] else None
    with pytest.raises(UserError, match="status 404"):
        CachedScorer(remote(api, documents_per_request=3), tmp_path / "scores").score(PAIRS)
    answered = sum(len(body["documents"]) for body in api.seen if "document 23" not in body["documents"])
    assert 0 < answered == len(read_scores(tmp_path / "scores"))
    api.misbehave = lambda server, body: None
    api.seen.clear()
    cached = CachedScorer(remote(api), tmp_path / "scores")
    assert cached.score(PAIRS).tolist() == Random(1).score(PAIRS).tolist()
    assert cached.scored == sum(len(body["documents"]) for body in api.seen) == len(PAIRS) - answered


def test_a_refused_document_leaves_no_other_without_score(api: JsonServer, tmp_path: Path) -> None:
    bad = {"document 23", "document 40"}
    api.misbehave = lambda server, body: (413, b"", {}) if bad & set(body["documents"]) else None
    config = RemoteConfig(url=api.url, documents_per_request=4)
    expected = Random(1).score(PAIRS)
    expected[[23, 40]] = np.nan
    # Thirteen requests; the two that are refused are halved until each refused document is alone: of four documents
    # twice. The second time these two are asked for, and nothing else.
    for sent, scored in ((13 + 2 * (2 + 2), 45), (2, 0)):
        api.seen.clear()
        scorer = RemoteReranker(config)
        kept = keep_remote_scores(scorer, tmp_path)
        assert np.array_equal(kept.score(PAIRS), expected, equal_nan=True)
        assert (scorer.refused, scorer.documents, kept.scored) == (2, scored, scored)
        assert len(api.seen) == sent
    answered = Counter(document for body in api.seen for document in body["documents"])
    assert answered == dict.fromkeys(bad, 1)


@pytest.mark.parametrize(("lists", "size"), [(1, 20), (3, 20), (12, 20), (12, 2)])
def test_a_refused_document_in_every_list_leaves_no_other_without_score(
    lists: int, size: int, api: JsonServer, tmp_path: Path
) -> None:
    pairs = [(f"query {i}", f"document {j}") for i in range(lists) for j in range(size)]
    bad = {f"query {i}": f"document {7 * i % size}" for i in range(lists)}
    api.misbehave = lambda server, body: (413, b"", {}) if bad[body["query"]] in body["documents"] else None
    config = RemoteConfig(url=api.url)
    scorer = RemoteReranker(config)
    found = keep_remote_scores(scorer, tmp_path).score(pairs)
    expected = Random(1).score(pairs)
    expected[[document == bad[query] for query, document in pairs]] = np.nan
    assert np.array_equal(found, expected, equal_nan=True)
    assert (scorer.refused, scorer.documents) == (lists, (size - 1) * lists)
    answered = [(body["query"], document) for body in api.seen for document in body["documents"]
                if bad[body["query"]] not in body["documents"]]  # fmt: skip
    assert sorted(answered) == sorted(pair for pair in pairs if pair[1] != bad[pair[0]])  # each is paid for once


@pytest.mark.parametrize("size", [1, 20, 100])
def test_a_server_that_refuses_every_document_is_given_up_soon(
    size: int, api: JsonServer, capsys: pytest.CaptureFixture[str]
) -> None:
    api.misbehave = first(9999, (400, b"no such model", {}))
    pairs = [(f"query {i}", f"document {j}") for i in range(20) for j in range(99)]
    message = failure(remote(api, documents_per_request=size), pairs)
    assert "left out" not in capsys.readouterr().err
    assert message.endswith("(so for all of 10 requests)")
    assert "no such model" in message
    assert len(api.seen) <= 10 + 8 + 10


def test_a_run_with_refused_documents_is_not_put_in_an_order(
    api: JsonServer, tmp_path: Path, as_documents: Callable[[Sequence[str]], Documents]
) -> None:
    api.misbehave = lambda server, body: (400, b"filtered", {}) if body["query"] == "bad" else None
    documents = as_documents(["one", "two"])
    run = Run("first", {name: rank(["d0", "d1"], [2.0, 1.0], ["x", "x"]) for name in ("good", "bad")})
    config = RemoteConfig(url=api.url)
    kept = keep_remote_scores(RemoteReranker(config), tmp_path)
    with pytest.raises(UserError, match="remote: 2 of 4 scores are not finite"):
        rerank(kept, run, {"good": "good", "bad": "bad"}, documents, name="remote")


def test_scores_are_in_the_file_as_soon_as_they_are_answered(api: JsonServer, tmp_path: Path) -> None:
    stored: list[int] = []
    api.misbehave = lambda server, body: stored.append(len(read_scores(tmp_path / "scores")))
    CachedScorer(remote(api, documents_per_request=1, concurrency=1), tmp_path / "scores").score(PAIRS)
    # One more request may be under way than was written.
    assert all(count - 2 <= size <= count for count, size in enumerate(stored))


def test_texts_of_every_script_and_broken_ones_are_scored(api: JsonServer) -> None:
    pairs = [("漢字", text) for text in ("שלום", "😀", "\0\u2028", "half \ud83d", "")]
    assert remote(api).score(pairs).tolist() == Random(1).score(pairs).tolist()


# --- other shapes


def in_teis_shape(body: dict[str, Any]) -> object:
    scores = Random(1).score([(body["query"], text) for text in body["texts"]])
    return [{"index": i, "score": float(scores[i])} for i in np.argsort(-scores).tolist()]


def in_jinas_shape(body: dict[str, Any]) -> object:
    answer = scored_by_seed(body)
    assert isinstance(answer, dict)
    return {**answer, "model": body["model"], "usage": {"total_tokens": 10 * len(body["documents"])}}


def test_tei_is_sent_texts_and_gives_a_bare_list(api: JsonServer) -> None:
    api.answer = in_teis_shape
    scorer = remote(api, api="tei")
    pairs = [("q", f"text {i}") for i in range(70)]
    assert scorer.score(pairs).tolist() == Random(1).score(pairs).tolist()
    assert sorted(len(body["texts"]) for body in api.seen) == [6, 32, 32]
    assert api.seen[0].keys() == {"path", "query", "texts", "raw_scores", "truncate"}
    assert api.seen[0]["raw_scores"] is api.seen[0]["truncate"] is True


def test_jina_tells_its_tokens(api: JsonServer) -> None:
    api.answer = in_jinas_shape
    scorer = remote(api, api="jina", price=0.02, documents_per_request=9)
    assert scorer.score(PAIRS).tolist() == Random(1).score(PAIRS).tolist()
    assert all(body["return_documents"] is False for body in api.seen)
    report = scorer.report()
    assert 0 < report.pop("seconds") < 60
    assert report == {"documents": 47, "refused": 0, "requests": 7, "retries": 0, "tokens": 470, "search_units": 0,
                      "cost": pytest.approx(0.02 * 470 / 1e6)}  # fmt: skip


def test_cohere_charges_search_units(api: JsonServer) -> None:
    units = {"meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}}
    api.answer = lambda body: {**cast(dict[str, Any], scored_by_seed(body)), **units}
    scorer = remote(api, price=2.0)
    scorer.score(PAIRS)
    assert (scorer.report()["search_units"], scorer.report()["cost"]) == (5, pytest.approx(2.0 * 5 / 1000))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b'{"error": "overloaded"}', "the answer is no list of objects; the answer must be TEI's"),
        (b"[0.5]", "the answer is no list of objects"),
        (b'[{"index": 0, "relevance_score": 0.5}]', "the score of document 0 is no finite number: None"),
        (b'[{"index": 0, "score": NaN}]', "the score of document 0 is no finite number: nan"),
        (b"[]", "1 of 1 documents have no result"),
    ],
)
def test_teis_faulty_answers_are_refused(content: bytes, fault: str, api: JsonServer) -> None:
    api.misbehave = first(99, (200, content, {}))
    assert fault in failure(remote(api, api="tei"))


def test_a_section_of_a_config_decides_everything(api: JsonServer) -> None:
    full = threading.Barrier(3)

    def together(server: JsonServer, body: dict[str, Any]) -> None:
        full.wait(timeout=10)

    api.misbehave = together
    settings = {"url": api.url, "model": "m", "api_key_env": "RERANK_KEY", "concurrency": 3, "documents_per_request": 2}
    config = RemoteConfig.model_validate(settings)
    pairs = [("q", f"document {i}") for i in range(12)]
    assert RemoteReranker(config).score(pairs).tolist() == Random(1).score(pairs).tolist()
    assert (api.most_under_way, len(api.seen), api.keys) == (3, 6, {f"Bearer {KEY}"})


def test_each_api_has_a_file_of_its_own(tmp_path: Path) -> None:
    config = RemoteConfig(url="http://127.0.0.1:9/rerank", model="a")
    changes: list[dict[str, Any]] = [{}, {"model": "b"}, {"url": "http://127.0.0.1:9/v2"}, {"api": "tei"}]

    def path(change: dict[str, Any]) -> Path:
        return keep_remote_scores(RemoteReranker(config.model_copy(update=change)), tmp_path).path

    paths = [path(change) for change in changes]
    assert len({*paths}) == 4
    assert path({"concurrency": 9, "document_words": 5, "timeout": 1.0, "documents_per_request": 3}) == paths[0]


def test_documents_are_cut_to_their_first_words_and_kept_by_what_was_sent(api: JsonServer, tmp_path: Path) -> None:
    long, short = "one  two\nthree four " * 300, "one two"
    pairs = [("q", long), ("q", short), ("q", f"{long} and more")]
    config = RemoteConfig(url=api.url, document_words=3)
    found = keep_remote_scores(RemoteReranker(config), tmp_path).score(pairs)
    assert api.seen[0]["documents"] == ["one  two\nthree", "one two"]
    assert found[0] == found[2]
    # Of other words, only what they cut otherwise is sent again.
    other = config.model_copy(update={"document_words": None})
    keep_remote_scores(RemoteReranker(other), tmp_path).score(pairs)
    assert [body["documents"] for body in api.seen[1:]] == [[long, f"{long} and more"]]
    RemoteReranker(config).score(pairs[:1])
    assert api.seen[-1]["documents"] == ["one  two\nthree"]
