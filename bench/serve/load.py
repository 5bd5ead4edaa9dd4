"""Clients that ask one thing after another, side by side, for a while."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from .connection import Connection


class Load(NamedTuple):
    """What some clients met.

    Attributes:
        seconds: of each answered request, from the first byte sent to the last received.
        elapsed: from the start to the last answer.
        statuses: how often each came.
    """

    seconds: list[float]
    elapsed: float
    statuses: Counter[int]

    @property
    def per_second(self) -> float:
        """Answered requests."""
        return len(self.seconds) / self.elapsed


def ask_all(port: int, path: str, bodies: Sequence[Any], *, clients: int, seconds: float, least: int = 0) -> Load:
    """Each client sends the next body as soon as its last is answered; refused ones (429) are sent again.

    Args:
        port: of the server.
        path: where all go.
        bodies: are taken in turns.
        clients: at the same time.
        seconds: for which new requests are sent.
        least: of requests, however long they take.
    """
    return asyncio.run(_ask_all(port, path, [json.dumps(body).encode() for body in bodies], clients, seconds, least))


async def _ask_all(port: int, path: str, bodies: Sequence[bytes], clients: int, seconds: float, least: int) -> Load:
    turns = itertools.cycle(bodies)
    load = Load([], 0.0, Counter())
    start = time.perf_counter()

    async def client() -> None:
        connection = Connection(port)
        while time.perf_counter() - start < seconds or len(load.seconds) < least:
            body = next(turns)
            while True:
                sent = time.perf_counter()
                reply = await connection.ask("POST", path, body)
                load.statuses[reply.status] += 1
                if reply.status != 429:
                    break
                await asyncio.sleep(0.05)
            if reply.status != 200:
                raise RuntimeError(f"{path}: {reply.status} {reply.body[:500]!r}")
            load.seconds.append(time.perf_counter() - sent)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return load._replace(elapsed=time.perf_counter() - start)
