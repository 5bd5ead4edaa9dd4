"""A real server process: the official client of Cohere, and an end in which nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cohere
import httpx
import pytest
import uvicorn

from secondstage.cli import main
from secondstage.config import ServerConfig
from secondstage.errors import UserError
from secondstage.reranker import Reranker
from secondstage.serve import Pipeline
from secondstage.serve.server import run
from secondstage.serve.server.metrics import Metrics
from secondstage.serve.server.observer import Observer
from secondstage.serve.server.run import GRACE, LAST_WORDS, Server, is_loopback, listen, serve

DOCUMENTS = ["yeast dough crust", "flour yeast oven", "wheel pedal chain"]
# A request that no machine answers before the test has gone on, and the room for several of them.
SECONDS_OF_WORK = {"text_1": "bread", "text_2": ["yeast dough crust " * 10] * 20000}
ROOM = ["max_documents=20000", "queue_tokens=100000000"]


@contextmanager
def running(bundle: Path, *settings: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and where it is."""
    command = [sys.executable, "-m", "secondstage", "serve", str(bundle), "port=0", *settings]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("secondstage: serving "), process.stderr.read() if process.stderr else line
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()


def scored(url: str) -> float:
    """The pairs that a server has scored."""
    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("secondstage_batch_pairs_total{"))


@pytest.fixture(scope="module")
def server(run_folder: Path) -> Iterator[str]:
    with running(run_folder / "bundle", *ROOM) as (_, url):
        yield url


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_connections_send_at_once(host: str) -> None:
    """Else the body of an answer waits for the client's delayed acknowledgement of the headers, 40 ms."""
    with (
        listen(host, 0) as listener,
        socket.create_connection(listener.getsockname()[:2]),
        listener.accept()[0] as taken,
    ):
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.slow
def test_the_client_of_cohere(server: str, run_folder: Path) -> None:
    """Both versions; the scores are those that the library gives."""
    logits = Pipeline.load(run_folder / "bundle").reranker.score([("flour of the bread", text) for text in DOCUMENTS])
    expected = {i: 1 / (1 + 2.718281828459045 ** -float(logit)) for i, logit in enumerate(logits)}
    settings: dict[str, Any] = {"api_key": "none", "base_url": server}
    with httpx.Client() as transport:
        second = cohere.ClientV2(**settings, httpx_client=transport).rerank(
            model="any", query="flour of the bread", documents=DOCUMENTS, top_n=2
        )
        first = cohere.Client(**settings, httpx_client=transport).rerank(
            model="any",
            query="flour of the bread",
            documents=[{"text": text} for text in DOCUMENTS],
            return_documents=True,
        )
        with pytest.raises(cohere.BadRequestError) as caught:
            cohere.ClientV2(**settings, httpx_client=transport).rerank(model="any", query="a", documents=[])
    assert len(second.results) == 2
    assert len(first.results) == 3
    results: list[Any] = [*second.results, *first.results]
    for result in results:
        assert result.relevance_score == pytest.approx(expected[result.index], abs=1e-5)
    assert first.results[0].document is not None
    assert first.results[0].document.text == DOCUMENTS[first.results[0].index]
    assert second.meta is not None
    assert second.meta.billed_units is not None
    assert second.meta.billed_units.search_units == 1
    assert caught.value.body["message"] == "invalid request: list of documents must not be empty"


@pytest.mark.slow
def test_a_search_is_that_of_the_library(server: str, run_folder: Path) -> None:
    answer = Pipeline.load(run_folder / "bundle").answer("flour of the bread", 5)
    found = httpx.post(f"{server}/search", json={"query": "flour of the bread", "top_n": 5, "explain": True}).json()
    assert [result["doc_id"] for result in found["results"]] == [result.doc_id for result in answer.results]
    for result, own in zip(found["results"], answer.results, strict=True):
        assert result["reranker_score"] == pytest.approx(own.reranker_score, abs=1e-5)
        assert result["probability"] == pytest.approx(own.probability, abs=1e-5)
    assert [row["rank"] for row in found["first_stage"]] == [1, 2, 3, 4, 5]
    assert set(found["milliseconds"]) == {"first_stage", "rerank", "queue", "total"}


@pytest.mark.slow
def test_sigterm_in_the_middle_loses_nothing(light_bundle: Path) -> None:
    """Every request has its own right answer, or is refused in words; the process ends well."""
    pipeline = Pipeline.load(light_bundle)
    texts = [f"{word} of the bread" for word in ["flour", "yeast", "oven", "dough", "crust", "knead", "loaf", "bake"]]
    pairs = [[(query, text) for text in texts] for query in texts]
    expected = [pipeline.reranker.score(own).tolist() for own in pairs]

    async def ask(client: httpx.AsyncClient, number: int) -> tuple[int, bool]:
        query = number % len(texts)
        body = {"text_1": texts[query], "text_2": texts * 8, "use_activation": False}
        answer = await client.post("/score", json=body)
        if answer.status_code == 200:
            found = [result["score"] for result in answer.json()["data"]]
            assert found == pytest.approx(expected[query] * 8, abs=1e-4)
        return answer.status_code, answer.headers.get("connection") == "close"

    async def everything(process: subprocess.Popen[str], url: str) -> list[tuple[int, bool]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
            tasks = [asyncio.create_task(ask(client, i)) for i in range(64)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            process.send_signal(signal.SIGTERM)
            for _ in range(100):
                if (await client.get("/ready")).status_code == 503:
                    break
            else:
                pytest.fail("it never said that it was stopping")
            tasks += [asyncio.create_task(ask(client, i)) for i in range(8)]
            return list(await asyncio.gather(*tasks))

    with running(light_bundle, "drain_seconds=30") as (process, url):
        answers = asyncio.run(everything(process, url))
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
    assert {status for status, _ in answers} <= {200, 503}
    assert [status for status, _ in answers].count(200) >= 32
    assert all(status == 503 and closes for status, closes in answers[64:])


@pytest.mark.slow
def test_a_server_with_nothing_to_do_ends_in_time(light_bundle: Path) -> None:
    """Refusing for a while is no draining that took too long."""
    with running(light_bundle, "drain_seconds=1") as (process, _):
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "are over" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("twice", [False, True])
def test_an_end_that_does_not_wait(light_bundle: Path, tmp_path: Path, twice: bool) -> None:
    """After drain_seconds what has no answer is refused, after a second Ctrl-C dropped; the journal is complete."""
    journal = tmp_path / "journal.jsonl"
    settings = [f"journal={journal}", "deadline_ms=null", f"drain_seconds={60 if twice else 0.05}", *ROOM]
    with running(light_bundle, *settings) as (process, url):
        httpx.post(f"{url}/score", json={"text_1": "bread", "text_2": "bread"}, timeout=60)
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(httpx.post, f"{url}/score", json=SECONDS_OF_WORK, timeout=120) for _ in range(3)]
            end = time.monotonic() + 60
            while scored(url) < 2:
                assert time.monotonic() < end, "none of them was begun"
                time.sleep(0.01)
            process.send_signal(signal.SIGINT if twice else signal.SIGTERM)
            if twice:
                while httpx.get(f"{url}/ready", timeout=60).status_code != 503:
                    assert time.monotonic() < end, "it never said that it was stopping"
                process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
            assert process.returncode == 0, errors
            dropped = sum(isinstance(request.exception(), httpx.TransportError) for request in asked)
            refused = sum(request.exception() is None and request.result().status_code == 503 for request in asked)
            assert dropped if twice else refused
    assert ("drain_seconds are over" in errors) is not twice
    assert '"route":"score"' in journal.read_text().replace(" ", "")


@pytest.mark.slow
def test_a_client_that_hangs_up_frees_its_work(server: str) -> None:
    """Its request is not computed: the next one does not wait for it."""
    before = scored(server)
    for _ in range(10):
        with pytest.raises(httpx.TimeoutException):
            httpx.post(f"{server}/score", json=SECONDS_OF_WORK, timeout=0.05)
    answer = httpx.post(f"{server}/score", json={"text_1": "bread", "text_2": "bread"}, timeout=60)
    assert answer.status_code == 200
    # Nothing waits any more, though two hundred thousand pairs were sent.
    assert scored(server) - before < 100_000
    assert "gone" in httpx.get(f"{server}/metrics").text


def drained(
    monkeypatch: pytest.MonkeyPatch, drain_seconds: float, drain: Callable[[], Awaitable[object]], *connections: object
) -> tuple[Server, list[object]]:
    """A server that has drained, with these connections, and its sleeps, which take no time.

    With each stands whether it refused what is left by then, and whether it ended.
    """
    service: Any = SimpleNamespace(config=ServerConfig(drain_seconds=drain_seconds), drain=drain, ended=asyncio.Event())
    server, slept = Server(uvicorn.Config("none"), service, "nothing"), list[object]()
    state: Any = server.server_state
    state.connections = set(connections)

    async def sleep(seconds: float) -> None:
        slept.append((seconds, service.ended.is_set(), server.should_exit))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(server._drained())
    return server, slept


@pytest.mark.parametrize(
    ("most", "taken", "expected"), [(60, 0.5, GRACE - 0.5), (GRACE / 2, 0.25, GRACE / 2 - 0.25), (60, GRACE + 1, 0)]
)
def test_a_server_that_has_drained_refuses_for_a_while(
    monkeypatch: pytest.MonkeyPatch, most: float, taken: float, expected: float
) -> None:
    now = 100.0

    async def drain() -> None:
        nonlocal now
        now += taken

    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: now))
    server, slept = drained(monkeypatch, most, drain)
    assert slept == [(expected, False, False)]
    assert (server.should_exit, server.force_exit) == (True, False)


def test_a_server_that_does_not_drain_in_time_refuses_what_is_left_and_hangs_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aborted: list[int] = []

    class Open:
        transport = SimpleNamespace(abort=lambda: aborted.append(1))

    server, slept = drained(monkeypatch, 0.01, asyncio.Event().wait, Open(), Open(), object())
    assert slept == [(LAST_WORDS, True, False)]
    assert (server.should_exit, server.force_exit, len(aborted)) == (True, True, 2)
    assert "drain_seconds are over" in capsys.readouterr().err


def test_addresses() -> None:
    assert is_loopback(ServerConfig().host)  # unless told
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("::")
    assert not is_loopback("example.org")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="choose another port"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_mistakes_are_told_before_anything_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for settings, message in (
        (["prot=1"], "prot: unknown key, did you mean 'port'?"),
        (["port=x", "max_documents=0"], "2 faults"),
        ([f"keys_file={tmp_path / 'none'}"], "cannot be read"),
        (["port=0"], "is not a bundle"),
    ):
        assert main(["serve", str(tmp_path), *settings]) == 2
        assert message in capsys.readouterr().err


def test_a_server_that_others_can_reach_without_a_key_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError):
        serve(tmp_path, ServerConfig(host="0.0.0.0", port=0))
    assert "no API key is asked for" in capsys.readouterr().err


@pytest.mark.parametrize(("cascade", "threads"), [((), [1]), ((1,), []), ((2,), [1])])
def test_a_bundle_is_opened_for_serving(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    cascade: tuple[int, ...],
    threads: list[int],
) -> None:
    """torch keeps its threads where it ranks before an engine; who has no engine is told of them.

    The cascade is told by how many batches each of its rerankers computes at once.
    """
    reranker = SimpleNamespace(threads=2, kind=Reranker.kind, engine="torch")
    rerankers = [*(SimpleNamespace(threads=count) for count in cascade), reranker]
    pipeline = SimpleNamespace(
        refused=False, falls_back=False, reranker=reranker, rerankers=rerankers, prepare=lambda: None
    )
    found: list[int] = []
    monkeypatch.setattr(run, "set_torch_threads", found.append)
    monkeypatch.setattr(Pipeline, "load", lambda *given: pipeline)
    monkeypatch.setattr(run, "read_manifest", lambda *given: {"fingerprint": "0" * 64})
    monkeypatch.setattr(Observer, "open", lambda *given: Observer(Metrics()))
    monkeypatch.setattr(run, "Service", lambda *given, **named: given)
    monkeypatch.setattr(run, "device", lambda: "cpu")
    run.make_service(tmp_path, ServerConfig())
    assert found == threads
    assert f"secondstage export {tmp_path} --to openvino-int8" in capsys.readouterr().err
    (tmp_path / "engines").mkdir()
    run.make_service(tmp_path, ServerConfig())
    said = capsys.readouterr().err
    assert "export" not in said
    assert "order" not in said
    pipeline.falls_back = True
    run.make_service(tmp_path, ServerConfig())
    assert "nothing has proven this bundle" in capsys.readouterr().err
