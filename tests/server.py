"""A server on the loopback interface that is sent JSON, answers well or badly, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

Answer = tuple[int, bytes, dict[str, str]]
"""Status, body and headers."""
Misbehave = Callable[["JsonServer", dict[str, Any]], "Answer | None"]


class JsonServer(ThreadingHTTPServer):
    """Answers as `answer` says, unless `misbehave` has another answer to a request.

    Attributes:
        seen: the bodies, with their path, in the order of their arrival.
        keys: the Authorization headers.
        most_under_way: requests that were answered at the same time.
    """

    def __init__(self, path: str, answer: Callable[[dict[str, Any]], object]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.path, self.answer = path, answer
        self.misbehave: Misbehave = lambda server, body: None
        self.seen: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{self.path}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = cast(JsonServer, self.server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.seen.append({"path": self.path, **body})
            server.keys.add(self.headers["Authorization"])
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            answer = server.misbehave(server, body)
            status, content, headers = answer or (200, json.dumps(server.answer(body)).encode(), {})
            if self.headers["Content-Type"] != "application/json":
                status = 415
        finally:
            with server.lock:
                server.under_way -= 1
        try:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except ConnectionError:  # the client did not wait
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def first(times: int, answer: Answer) -> Misbehave:
    """Gives `answer` to the first so many requests."""
    return lambda server, body: answer if len(server.seen) <= times else None
