"""The core of the server, without HTTP: a pipeline, what fills its batches, and the signals."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import NamedTuple

from secondstage.config import ServerConfig

from ..pipeline import Answer, Pipeline
from .signals import Searched, Signals, Silent


class Found(NamedTuple):
    """The answer to a search.

    Attributes:
        request_id: a new one.
        answer: what was found.
        queue_ms: that it waited.
        total_ms: that it took.
    """

    request_id: str
    answer: Answer
    queue_ms: float
    total_ms: float


class Service:
    """Answers searches and rerank requests; `make_app` puts HTTP in front of it.

    Attributes:
        pipeline: the bundle's.
        config: the server's.
        signals: are told of everything.
        draining: whether no more requests are accepted.
    """

    def __init__(self, pipeline: Pipeline, config: ServerConfig, signals: Signals | None = None) -> None:
        self.pipeline, self.config = pipeline, config
        self.signals: Signals = signals or Silent()
        self.draining = False

    async def search(self, query: str, top_n: int) -> Found:
        """Search the bundle."""
        start = time.perf_counter()
        answer = await asyncio.to_thread(self.pipeline.answer, query, top_n)
        total_ms = 1000 * (time.perf_counter() - start)
        found = Found(uuid.uuid4().hex, answer, 0.0, total_ms)
        self.signals.searched(Searched(found.request_id, query, answer, 0.0, total_ms))
        return found
