"""An engine without a model: a pair's tokens and its score are written in its texts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from secondstage.pairmodel import token_budget
from secondstage.run import Scores
from secondstage.serve.server.batcher import Batcher
from secondstage.serve.server.engine import Limits, Row


class FakeEngine:
    """Scores the pair ("17", "…") of 5 tokens with 17: a query is its score, a document has a token a character.

    Attributes:
        batches: the scores in each batch, in the order in which they were computed.
        seconds: that a batch takes.
    """

    longest = 512
    threads = 1
    batch_tokens = 64

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[list[float]] = []
        self.padded: list[int] = []

    def cut(self, lengths: Sequence[int]) -> Iterable[list[int]]:
        return token_budget(lengths, self.batch_tokens)

    def prepare(self, pairs: Sequence[tuple[str, str]], limits: Limits) -> list[Row]:
        return [Row(max(len(document), 1), {"score": [number(query)]}) for query, document in pairs]

    def compute(self, rows: Sequence[Row]) -> Scores:
        if self.seconds:
            time.sleep(self.seconds)
        scores = [float(row.features["score"][0]) for row in rows]
        self.batches.append(scores)
        self.padded.append(max(row.tokens for row in rows) * len(rows))
        if any(score == float("-inf") for score in scores):
            raise RuntimeError("out of memory")
        return np.array(scores, np.float32)


def number(text: str) -> Any:
    """The score in a query: "nan" is one, "-inf" makes the engine fail."""
    return float(text)


@contextmanager
def batching(engine: FakeEngine, **settings: Any) -> Iterator[Batcher]:
    """A batcher with threads of its own; to be used within a running loop."""
    with ThreadPoolExecutor(1) as computing, ThreadPoolExecutor(1) as preparing:
        engine.batch_tokens = settings.pop("batch_tokens", engine.batch_tokens)
        settings = {"queue_tokens": 10_000} | settings
        yield Batcher(engine, computing=computing, preparing=preparing, **settings)


async def until(condition: Any, seconds: float = 10.0) -> None:
    """Wait until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        await asyncio.sleep(0.001)
