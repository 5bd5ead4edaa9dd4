"""While a server drains, no connection is closed before its request was read."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from starlette.types import Message, Receive, Scope, Send

from secondstage.serve.server import closing
from secondstage.serve.server.closing import Closing
from secondstage.serve.server.service import Service

REQUEST: list[Message] = [
    {"type": "http.request", "body": b"[1,", "more_body": True},
    {"type": "http.request", "body": b"2]", "more_body": False},
]


def answered(parts: list[Message], *, draining: bool, read: int = 0, kind: str = "http") -> tuple[int, list[Message]]:
    """How much of a request was read when its answer began, and the answer, of an app that reads so many parts."""
    left, sent = list(parts), cast("list[Message]", [])
    read_by_then = -1

    async def receive() -> Message:
        if not left:
            await asyncio.sleep(60)
        return left.pop(0)

    async def send(message: Message) -> None:
        nonlocal read_by_then
        if not sent:
            read_by_then = len(parts) - len(left)
        sent.append(message)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(read):
            await receive()
        await send({"type": "http.response.start", "status": 503, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"no"})

    service = cast("Service", SimpleNamespace(draining=draining))
    asyncio.run(Closing(app, service)({"type": kind}, receive, send))
    return read_by_then, sent


@pytest.mark.parametrize("read", [0, 1, 2])
def test_a_request_is_read_to_its_end_before_the_last_answer_begins(read: int) -> None:
    parts, sent = answered(REQUEST, draining=True, read=read)
    assert parts == 2
    assert sent[0]["headers"] == [(b"a", b"b"), (b"connection", b"close")]
    assert sent[1] == {"type": "http.response.body", "body": b"no"}


def test_a_client_that_hangs_up_ends_the_reading() -> None:
    parts, sent = answered([REQUEST[0], {"type": "http.disconnect"}, *REQUEST], draining=True)
    assert (parts, len(sent)) == (2, 2)


def test_a_body_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "PATIENCE", 0.05)
    parts, sent = answered(REQUEST[:1], draining=True)
    assert (parts, len(sent)) == (1, 2)


@pytest.mark.parametrize(("kind", "draining"), [("http", False), ("lifespan", True)])
def test_nothing_else_is_touched(kind: str, draining: bool) -> None:
    parts, sent = answered(REQUEST, draining=draining, kind=kind)
    assert parts == 0
    assert sent[0]["headers"] == [(b"a", b"b")]
