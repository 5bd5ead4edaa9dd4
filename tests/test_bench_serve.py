"""`bench.serve`: figures against values computed by hand, its client against bad servers, a small soak."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.serve.connection import Connection, RefusedError, TornError, UnansweredError
from bench.serve.conventions import CONVENTIONS, once, spoiled
from bench.serve.served import Served, free_port, resident
from bench.serve.shots import SETTINGS, Pool, Shots, check_rerank, check_search, declared_statuses, first_words
from bench.serve.soak import soak
from bench.serve.summary import growth, largest_difference, latency, ranks_kept, within

LOGITS = np.array([[0.0, 2.0, -1.0]], np.float32)
POOL = Pool(["a query"], ["one", "two", "three"], LOGITS, {"a query": [("d2", 2.0), ("d1", 0.0)]})
SIGMOIDS = (1 / (1 + np.exp(-LOGITS[0]))).tolist()


def test_latency_is_in_milliseconds() -> None:
    assert latency([0.001 * i for i in range(101)]) == {"p50_ms": 50.0, "p95_ms": 95.0}
    assert within([0.0625, 0.125, 0.25], 125) == 0.667


def test_memory_is_compared_after_the_warm_up() -> None:
    rising = [(i / 100, 100 + i) for i in range(101)]
    assert growth(rising) == pytest.approx(195 / 130 - 1, abs=1e-4)
    # What is taken before the warm-up ends, and between the windows, is no growth.
    assert growth([(0.0, 10), (0.1, 50), (0.3, 100), (0.6, 500), (0.95, 105)]) == 0.05
    assert growth([(0.0, 10), (0.7, 100), (1.0, 90)]) == -0.1
    assert growth([]) == 0.0


def test_neighbours_that_are_far_apart_must_keep_their_order() -> None:
    reference = {"q": np.array([4.0, 3.0, 2.95, 1.0], np.float32)}
    # 3.0 and 2.95 change places, which counts only below their distance; so do 4.0 and 3.0.
    other = {"q": np.array([2.0, 3.0, 3.1, 1.0], np.float32)}
    assert ranks_kept(reference, reference, 0.0) == 1.0
    assert ranks_kept(reference, other, 0.0) == pytest.approx(1 / 3)
    assert ranks_kept(reference, other, 0.1) == 0.5
    assert ranks_kept(reference, other, 5.0) == 1.0
    assert largest_difference(reference["q"], other["q"]) == 2.0


def test_memory_is_read_as_linux_tells_it() -> None:
    assert resident("Name:\tx\nVmRSS:\t    1024 kB\n") == 2**20
    assert resident("State:\tZ (zombie)\n") == 0


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda convention: convention.name)
def test_answers_of_every_convention_are_checked(
    convention: object, answered: Callable[[str, list[tuple[int, float]]], object]
) -> None:
    known = next(known for known in CONVENTIONS if known is convention)
    scores = LOGITS[0].tolist() if known.logits else SIGMOIDS
    order = [0, 1, 2] if known.name == "vllm-score" else [1, 0, 2]

    def fault(places: list[int], off: float = 0.0) -> str:
        answer = answered(known.name, [(i, scores[i] + off) for i in places])
        return check_rerank(known, LOGITS[0], 1e-3, answer)

    assert fault(order) == ""
    assert "off by" in fault(order, 0.01)
    assert "indices" in fault(order[:2])
    assert known.name == "vllm-score" or "order" in fault([0, 1, 2])
    with pytest.raises(ValueError, match="two scores"):
        fault([*order, order[0]])


@pytest.fixture
def answered() -> Callable[[str, list[tuple[int, float]]], object]:
    """What a server of each convention answers."""

    def answer(name: str, scores: list[tuple[int, float]]) -> object:
        if name in ("tei", "tei-raw"):
            return [{"index": i, "score": score} for i, score in scores]
        if name == "vllm-score":
            return {"data": [{"index": i, "score": score} for i, score in scores]}
        return {"results": [{"index": i, "relevance_score": score} for i, score in scores]}

    return answer


def test_a_document_has_one_score() -> None:
    assert once([(0, 1.0), (1, 0.5)]) == {0: 1.0, 1: 0.5}


def test_searches_are_checked() -> None:
    def fault(*results: tuple[str, float]) -> str:
        answer = {"results": [{"doc_id": doc_id, "reranker_score": score} for doc_id, score in results]}
        return check_search([("d2", 2.0), ("d1", 0.0)], 1e-3, answer)

    assert fault(("d2", 2.0), ("d1", 0.0)) == ""
    assert fault(("d2", 2.0), ("d7", 0.0)) == ""  # as good: the cut is within the tolerance
    assert "d2 has 1.5" in fault(("d2", 1.5), ("d1", 0.0))
    assert "1 results" in fault(("d2", 2.0))
    assert "does not find" in fault(("d7", 2.0), ("d8", 0.0))


def test_requests_are_drawn_by_their_number() -> None:
    shots = Shots(POOL, {"/search": frozenset({"200", "4XX"})}, tolerance=1e-3)
    drawn = [shots.draw(i) for i in range(300)]
    again = [shots.draw(i) for i in reversed(range(300))]
    assert [(shot.path, shot.body) for shot in drawn] == [(shot.path, shot.body) for shot in reversed(again)]
    kinds = {shot.kind for shot in drawn}
    assert {"search", "leave", "half", "spoiled", "many", "large"} | {found.name for found in CONVENTIONS} == kinds
    searched = next(shot for shot in drawn if shot.kind == "search")
    assert (searched.declares(200), searched.declares(429), searched.declares(500)) == (True, True, False)


def test_spoiled_bodies_are_never_right() -> None:
    body = {"model": "m", "query": "a", "documents": ["b"]}
    for seed in range(100):
        content = spoiled(body, random.Random(seed))
        try:
            found = json.loads(content)
        except ValueError:
            continue
        assert not isinstance(found, dict) or not isinstance(found.get("query"), str) or not found["query"]


def test_declared_statuses_are_those_of_posts() -> None:
    paths: dict[str, Any] = {
        "/a": {"post": {"responses": {"200": {}, "429": {}}}},
        "/b": {"get": {"responses": {"200": {}}}},
    }
    assert declared_statuses({"paths": paths}) == {"/a": frozenset({"200", "429"})}


def test_first_words() -> None:
    assert first_words(" one\ntwo  three", 2) == "one two"


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    """A server that answers every request so, and closes; its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"", UnansweredError),
        (b"HTTP/1.1 200 OK\r\ncontent-le", TornError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc", TornError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabcdef", TornError),
    ],
)
def test_what_is_no_whole_answer_is_a_fault(answer: bytes, fault: type[Exception]) -> None:
    async def ask() -> None:
        async with answering(answer) as port:
            with pytest.raises(fault):
                await Connection(port).ask("GET", "/")

    asyncio.run(ask())


def test_a_whole_answer_is_read_and_a_closed_connection_opened_again() -> None:
    async def ask() -> None:
        async with answering(b"HTTP/1.1 429 Too Many\r\nRetry-After: 3\r\ncontent-length: 2\r\n\r\n{}") as port:
            connection = Connection(port)
            for _ in range(2):
                reply = await connection.ask("POST", "/", b"{}")
                assert (reply.status, reply.headers["retry-after"], reply.json()) == (429, "3", {})
                await asyncio.sleep(0.05)
            connection.close()

    asyncio.run(ask())


def test_nobody_listens() -> None:
    with pytest.raises(RefusedError):
        asyncio.run(Connection(free_port()).ask("GET", "/"))


@pytest.mark.slow
def test_a_small_soak_loses_nothing(light_bundle: Path, tmp_path: Path) -> None:
    with Served(light_bundle, [*SETTINGS, "backend=torch"], tmp_path / "log") as served:
        shots = Shots.of(light_bundle, "torch", served.url, tolerance=1e-3, queries=8, documents=16)
        found = soak(served, shots, requests=200, clients=16)
    assert found["requests"] == 200
    assert found["notes"] == []
    assert (found["lost"], found["torn"], found["wrong"], found["undeclared"]) == (0, 0, 0, 0)
    assert found["exit_codes"] == [0]
    # Each request has one answer, but for those that were told to come later or whose client went away.
    later = sum(count for name, count in found["statuses"].items() if name.endswith(("429", "503")))
    assert found["answered"] - later + found["left"] == 200
