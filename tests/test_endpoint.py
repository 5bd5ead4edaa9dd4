"""An endpoint: pauses, advice, and what becomes of the other requests when one fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from secondstage.config import EndpointConfig
from secondstage.endpoint import LONGEST_PAUSE, Endpoint, Kind, pause, way_out
from secondstage.errors import UserError

from .conftest import serving
from .server import Answer, JsonServer, first

KIND = Kind("an oracle", "https://delphi.example/ask", "ask less")
JOBS = [(i, {"number": i}) for i in range(40)]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[JsonServer]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = JsonServer("/ask", lambda body: body["number"])
    with serving(server):
        yield server


def endpoint(api: JsonServer, **settings: Any) -> Endpoint:
    return Endpoint(EndpointConfig(url=api.url, **settings), KIND, backoff=0.001)


def number(key: int, content: bytes) -> int:
    return int(content)


@pytest.mark.parametrize(
    "url", ["https://api.cohere.com/v2/rerank", "http://[::1]:80/r", "http://host", "https://host:8443/a@b?version=2"]
)
def test_addresses_are_taken_as_they_are(url: str) -> None:
    assert Endpoint(EndpointConfig(url=url), KIND).url == url


def test_every_job_gets_its_own_answer(api: JsonServer) -> None:
    asked = endpoint(api, concurrency=3)
    assert sorted(asked.ask(JOBS, number)) == [(i, i) for i in range(40)]
    assert (asked.requests, asked.retries) == (40, 0)
    assert list(asked.ask([], number)) == []


def test_jobs_are_made_only_when_their_turn_is_near(api: JsonServer) -> None:
    made: list[int] = []

    def jobs() -> Iterator[tuple[int, dict[str, int]]]:
        for i, body in JOBS:
            made.append(i)
            yield i, body

    for count, _ in enumerate(endpoint(api, concurrency=3).ask(jobs(), number), 1):
        assert len(made) <= count + 2 * 3


def test_answers_under_way_are_given_before_the_error(api: JsonServer) -> None:
    refused = threading.Event()

    def unknown_the_third(server: JsonServer, body: dict[str, Any]) -> Answer | None:
        if body["number"] == 3:
            refused.set()
            return 404, b"no", {}
        assert refused.wait(timeout=10)
        time.sleep(0.1)  # answered after the refusal
        return None

    api.misbehave = unknown_the_third
    given: list[int] = []
    with pytest.raises(UserError, match="status 404"):
        given.extend(key for key, _ in endpoint(api, concurrency=4).ask(JOBS, number))
    assert given == [] or len(given) <= 8
    assert sorted(given) == sorted(body["number"] for body in api.seen if body["number"] != 3)


def test_what_cannot_be_read_is_an_error_that_names_the_address(api: JsonServer) -> None:
    def refuse(key: int, content: bytes) -> int:
        raise ValueError("this is no number")

    with pytest.raises(UserError, match=rf"^{api.url}: this is no number$"):
        list(endpoint(api).ask(JOBS[:1], refuse))


def test_who_stops_listening_sends_no_more(api: JsonServer) -> None:
    answers = endpoint(api, concurrency=2).ask(JOBS, number)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert len(api.seen) <= 5


@pytest.mark.parametrize("status", [400, 403, 413, 422])
def test_one_request_that_is_refused_is_left_out(
    status: int, api: JsonServer, capsys: pytest.CaptureFixture[str]
) -> None:
    api.misbehave = lambda server, body: (status, b"filtered", {}) if body["number"] in (7, 30) else None
    asked = endpoint(api)
    expected = {i: None if i in (7, 30) else i for i in range(40)}
    assert dict(asked.ask(JOBS, number)) == expected
    assert (asked.refusals.answered, asked.refusals.refused, asked.requests) == (38, 2, 40)
    news = capsys.readouterr().err
    assert news.count(f"{api.url}: status {status}, 'filtered'") == 1
    assert "left out" in news
    # A server that answers is not given up for a call in which it refuses all.
    assert dict(asked.ask(JOBS[7:8], number)) == {7: None}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("status", [401, 404])
def test_what_concerns_all_requests_ends_it_even_so(status: int, api: JsonServer) -> None:
    api.misbehave = lambda server, body: (status, b"no", {}) if body["number"] == 30 else None
    with pytest.raises(UserError, match=f"status {status}"):
        list(endpoint(api).ask(JOBS, number))


def test_a_server_that_refuses_everything_is_given_up_soon(api: JsonServer) -> None:
    api.misbehave = first(99, (400, b"no such model", {}))
    with pytest.raises(UserError, match=r"'no such model'; .* \(so for all of 10 requests\)$"):
        list(endpoint(api, concurrency=2).ask(JOBS, number))
    assert len(api.seen) <= 14
    # Unless it answered in an earlier run: then what is left may well be what it refused then.
    assert dict(endpoint(api).ask(JOBS[:12], number, proven=True)) == dict.fromkeys(range(12))


def test_a_key_that_may_not_is_told_from_prompts_that_may_not(api: JsonServer) -> None:
    api.misbehave = lambda server, body: (403, b"no", {}) if len(server.seen) <= 3 else None
    assert [key for key, found in endpoint(api, concurrency=1).ask(JOBS, number) if found is None] == [0, 1, 2]
    # Taken at first, then no longer.
    api.seen.clear()
    api.misbehave = lambda server, body: (403, b"no credit", {}) if len(server.seen) > 20 else None
    given: list[int] = []
    with pytest.raises(UserError, match=r"'no credit'; .*check the API key.* \(so for the last 10 requests\)$"):
        given.extend(found for _, found in endpoint(api, concurrency=2).ask(JOBS, number) if found is not None)
    assert len(given) == 20
    assert len(api.seen) <= 20 + 10 + 4
    api.misbehave = first(99, (403, b"", {}))
    with pytest.raises(UserError, match=r"check the API key.* \(so for all of 10 requests\)$"):
        list(endpoint(api, concurrency=1).ask(JOBS, number))


def test_an_answer_that_does_not_come_in_time_is_asked_for_once_more_and_the_timeout_named(api: JsonServer) -> None:
    over = threading.Event()

    def late(server: JsonServer, body: dict[str, Any]) -> None:
        over.wait(timeout=10)

    api.misbehave = late
    try:
        with pytest.raises(UserError, match=r"no answer within 0\.2 seconds, in 2 attempts; raise timeout"):
            list(endpoint(api, timeout=0.2).ask(JOBS[:1], number))
    finally:
        over.set()
    assert len(api.seen) == 2


def test_an_answer_that_cannot_be_read_is_asked_for_once_more_then_left_out(api: JsonServer) -> None:
    def torn(server: JsonServer, body: dict[str, Any]) -> Answer | None:
        times = sum(seen["number"] == body["number"] for seen in server.seen)
        return (200, b"{", {}) if body["number"] == 3 or (body["number"] == 5 and times == 1) else None

    api.misbehave = torn
    asked = endpoint(api)
    assert dict(asked.ask(JOBS, number)) == {i: None if i == 3 else i for i in range(40)}
    assert (asked.requests, asked.retries, asked.refusals.refused) == (42, 2, 1)


def test_too_much_has_a_way_out_of_its_own(api: JsonServer) -> None:
    api.misbehave = first(1, (413, b"", {}))
    with pytest.raises(UserError, match="status 413, ''; ask less"):
        list(endpoint(api).ask(JOBS[:1], number))


def test_pauses_double_and_jitter_takes_off_up_to_half() -> None:
    assert [pause(n, "", base=0.5, jitter=0.0) for n in range(1, 6)] == [0.5, 1, 2, 4, 8]
    assert [pause(n, "", base=0.5, jitter=0.5) for n in range(1, 6)] == [0.375, 0.75, 1.5, 3, 6]
    assert pause(5000, "", base=1.0, jitter=0.0) == LONGEST_PAUSE


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("7", 7), ("7.5", 7.5), ("1", 2), ("0", 2), ("99999", 60), ("9" * 999, 60), ("-5", 2), ("nan", 2), ("soon", 2)],
)
def test_a_server_may_ask_for_a_longer_pause_but_not_for_one_too_long(asked: str, expected: float) -> None:
    assert pause(2, asked, base=1.0, jitter=0.0) == expected


def test_a_server_may_name_the_time_to_come_back() -> None:
    assert pause(1, formatdate(time.time() + 30, usegmt=True), base=1.0, jitter=0.0) == pytest.approx(30, abs=2)
    assert pause(1, formatdate(time.time() - 30, usegmt=True), base=1.0, jitter=0.0) == 1


def test_a_refused_key_without_a_variable_is_told_how_to_give_one() -> None:
    assert way_out(401, kind=KIND).startswith("check the API key, which api_key_env can name")
    assert way_out(403, kind=KIND) == f"unless it is about what was sent, {way_out(401, kind=KIND)}"
