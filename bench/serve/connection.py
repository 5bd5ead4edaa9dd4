"""One kept-alive HTTP connection, bare: it tells what became of a request better than a client that is kind would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

HOST = "127.0.0.1"
# No answer is larger; a server that sends without end is stopped here.
LARGEST = 64 * 2**20


class Reply(NamedTuple):
    """A whole answer: status, headers (names in lower case) and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class RefusedError(ConnectionError):
    """Nobody listens: nothing was sent."""


class UnansweredError(ConnectionError):
    """The request was sent, at least in part, and the connection closed without a byte of an answer."""


class TornError(ConnectionError):
    """Part of an answer came, or more than one answer: never right."""


class _Wire(asyncio.Protocol):
    """What came in, and whether the other side has closed. Streams would drop what came before a reset."""

    def __init__(self) -> None:
        self.data, self.closed, self.changed = bytearray(), False, asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """More came."""
        self.data += data
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """No more comes."""
        self.closed = True
        self.changed.set()


class Connection:
    """Opened when it is first used, and again when the server has closed it; one request at a time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._wire: _Wire | None = None
        self._transport: asyncio.Transport | None = None

    async def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """Send a request and wait for its whole answer, which may come before all was sent.

        Raises:
            RefusedError: nobody listens.
            UnansweredError: the connection was closed without an answer.
            TornError: the answer is not whole, or there is more than one.
        """
        await self.send(method, path, body, headers)
        try:
            return await self._read()
        except BaseException:
            self.close()
            raise

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        length: int | None = None,
    ) -> None:
        """Send a request, and wait for nothing; `length` says that the body has another length than it has."""
        transport = await self._open()
        given = {"host": f"{HOST}:{self.port}", "content-type": "application/json", **(headers or {})}
        given["content-length"] = str(len(body) if length is None else length)
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        transport.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)

    def close(self) -> None:
        """Close at once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()
        self._wire = self._transport = None

    async def _open(self) -> asyncio.Transport:
        if self._wire is not None and self._transport is not None and not self._wire.closed:
            if self._wire.data:
                raise TornError(f"{len(self._wire.data)} bytes that no request asked for")
            return self._transport
        self.close()
        try:
            found = await asyncio.get_running_loop().create_connection(_Wire, HOST, self.port)
        except OSError as error:
            raise RefusedError(str(error)) from None
        self._transport, self._wire = found
        return self._transport

    async def _read(self) -> Reply:
        wire = self._wire
        assert wire is not None
        while (end := wire.data.find(b"\r\n\r\n")) < 0:
            await self._more(wire)
        status, headers = _head(bytes(wire.data[:end]))
        whole = end + 4 + int(headers.get("content-length", "0"))
        while len(wire.data) < whole:
            await self._more(wire)
        body = bytes(wire.data[end + 4 : whole])
        del wire.data[:whole]
        if wire.data:
            raise TornError(f"{len(wire.data)} bytes after the answer")
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Reply(status, headers, body)

    async def _more(self, wire: _Wire) -> None:
        if wire.closed and wire.data:
            raise TornError(f"the answer stops after {len(wire.data)} bytes")
        if wire.closed:
            raise UnansweredError("the connection was closed without an answer")
        if len(wire.data) > LARGEST:
            raise TornError("the answer does not end")
        wire.changed.clear()
        await wire.changed.wait()


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(":", 1) for line in lines)
    return int(first.split()[1]), {name.strip().lower(): value.strip() for name, value in headers.items()}
