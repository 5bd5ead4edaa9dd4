"""Nothing lost: many clients, all conventions, bad clients among them, and a SIGTERM in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from secondstage.progress import say

from .connection import Connection, RefusedError, Reply, TornError, UnansweredError
from .ground import Options
from .served import Served
from .shots import SETTINGS, Leaves, Shot, Shots
from .summary import growth

# Seconds between two looks at the memory.
LOOK = 0.5
# A request that was sent so few seconds before a SIGTERM may have met a closed connection: it was not accepted.
JUST_BEFORE = 0.25
# Tries of one request: it is refused while the server is full, stops or starts.
TRIES = 2000
# Stands in for the answer of a server that is stopping.
LATER = Reply(503, {}, b"")
FAULTS = ("lost", "torn", "wrong", "undeclared", "cut", "refused", "left")
WAIT = 0.05


class Tally(NamedTuple):
    """What became of the requests.

    Attributes:
        statuses: answers, by kind of request and status.
        faults: what must not be: lost, torn, wrong, undeclared; and by name what is only counted: refused (no
            connection while the server was down), cut (at the stop, without an answer; sent again), left (the client
            went away).
        notes: the first faults in words.
    """

    statuses: Counter[str]
    faults: Counter[str]
    notes: list[str]

    def fault(self, name: str, note: str) -> None:
        """Count what must not be."""
        self.faults[name] += 1
        if len(self.notes) < 20:
            self.notes.append(f"{name}: {note}")


class Soak:
    """One soak of one server.

    Attributes:
        tally: what became of the requests.
        memories: of each process, (share of its work that was done, bytes).
    """

    def __init__(self, served: Served, shots: Shots, *, requests: int, clients: int, stop: bool = True) -> None:
        self.served, self.shots, self.requests, self.clients = served, shots, requests, clients
        self.tally = Tally(Counter(), Counter(), [])
        self.memories: list[list[tuple[int, int]]] = []
        self.codes: list[int] = []
        self._next = self._done = 0
        self._stop_at = requests // 2 if stop else requests + 1
        self._stopped_at: float | None = None
        # Up: clients send. Steady: one process serves, and is not about to stop.
        self._up, self._steady = asyncio.Event(), True

    async def run(self) -> None:
        """Send everything."""
        self._up.set()
        look = asyncio.create_task(self._look())
        stop = asyncio.create_task(self._stop())
        await asyncio.gather(*(self._client() for _ in range(self.clients)))
        for task in (look, stop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def found(self, seconds: float) -> dict[str, Any]:
        """The figures."""
        grown = [growth(_shares(samples)) for samples in self.memories if samples]
        return {
            "requests": self._done,
            "answered": self.tally.statuses.total(),
            **{
                name: self.tally.faults[name]
                for name in ("lost", "torn", "wrong", "undeclared", "cut", "refused", "left")
            },
            "rss_growth": max(grown, key=abs, default=0.0),
            "rss_growths": grown,
            "exit_codes": self.codes,
            "seconds": round(seconds, 1),
            "statuses": dict(sorted(self.tally.statuses.items())),
            "notes": self.tally.notes,
        }

    async def _client(self) -> None:
        connection = Connection(self.served.port)
        while self._next < self.requests:
            number = self._next
            self._next += 1
            await self._fire(connection, self.shots.draw(number))
            self._done += 1
        connection.close()

    async def _fire(self, connection: Connection, shot: Shot) -> None:
        """One request, until it has an answer that is not "later"."""
        for _ in range(TRIES):
            await self._up.wait()
            if shot.leaves is not None:
                await self._leave(connection, shot, shot.leaves)
                return
            reply = await self._ask(connection, shot)
            if reply is None:
                return
            if not _later(reply):
                self._check(shot, reply)
                return
            await asyncio.sleep(min(float(reply.headers.get("retry-after", WAIT)), 1.0))
        self.tally.fault("lost", f"{shot.kind}: no answer but “later” {TRIES} times")

    async def _ask(self, connection: Connection, shot: Shot) -> Reply | None:
        """The answer, `LATER` where a server that is stopping gave none; none where that is a fault."""
        sent = time.monotonic()
        try:
            reply = await connection.ask("POST", shot.path, shot.body)
        except TornError as error:
            self.tally.fault("torn", f"{shot.kind}: {error}")
        except (RefusedError, UnansweredError) as error:
            if not self._while_stopping(sent):
                self.tally.fault("lost", f"{shot.kind}: {error}")
            else:
                if isinstance(error, RefusedError):
                    self._up.clear()
                self.tally.faults["refused" if isinstance(error, RefusedError) else "cut"] += 1
                return LATER
        else:
            self.tally.statuses[f"{shot.kind} {reply.status}"] += 1
            if not shot.declares(reply.status):
                self.tally.fault("undeclared", f"{shot.kind} {shot.path}: {reply.status} {reply.body[:200]!r}")
            return reply
        return None

    async def _leave(self, connection: Connection, shot: Shot, leaves: Leaves) -> None:
        """Send all or a part, and go away."""
        part = shot.body[: int(leaves.part * len(shot.body))]
        with contextlib.suppress(RefusedError):
            await connection.send("POST", shot.path, part, length=len(shot.body))
        await asyncio.sleep(leaves.after)
        connection.close()
        self.tally.faults["left"] += 1

    def _check(self, shot: Shot, reply: Reply) -> None:
        if reply.status not in shot.expected:
            self.tally.fault("wrong", f"{shot.kind} {shot.path}: {reply.status} {reply.body[:200]!r}")
            return
        if shot.check is None:
            return
        try:
            fault = shot.check(reply.json())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            fault = f"{type(error).__name__}: {error}"
        if fault:
            self.tally.fault("wrong", f"{shot.kind}: {fault}")

    def _while_stopping(self, sent: float) -> bool:
        stopped = self._stopped_at
        return stopped is not None and sent > stopped - JUST_BEFORE

    async def _stop(self) -> None:
        """SIGTERM in the middle, and another start."""
        while self._done < self._stop_at:
            await asyncio.sleep(0.01)
        say(f"  SIGTERM after {self._done} requests")
        self._stopped_at = time.monotonic()
        # Clients go on until nobody listens any more: what a draining server does is part of what is looked at.
        self._steady = False
        self.codes.append(await asyncio.to_thread(self.served.stop))
        await asyncio.to_thread(self.served.start)
        self.memories.append([])
        self._steady = True
        self._up.set()
        await asyncio.sleep(JUST_BEFORE)
        self._stopped_at = None

    async def _look(self) -> None:
        self.memories.append([])
        while True:
            if self._steady and (held := self.served.memory()):
                self.memories[-1].append((self._done, held))
            await asyncio.sleep(LOOK)


def _later(reply: Reply) -> bool:
    """Whether the same request is worth sending again: the server was full, or stops."""
    return reply.status in (429, 503)


def _shares(samples: Sequence[tuple[int, int]]) -> list[tuple[float, int]]:
    first, last = samples[0][0], samples[-1][0]
    return [((done - first) / max(last - first, 1), held) for done, held in samples]


def soak(served: Served, shots: Shots, *, requests: int, clients: int, stop: bool = True) -> dict[str, Any]:
    """Soak a server that is ready; afterwards it is ready again."""

    async def run() -> dict[str, Any]:
        start = time.monotonic()
        one = Soak(served, shots, requests=requests, clients=clients, stop=stop)
        await one.run()
        return one.found(time.monotonic() - start)

    return asyncio.run(run())


def measure_soak(options: Options, *, backend: str, requests: int, clients: int, tolerance: float) -> dict[str, Any]:
    """The soak of a bundle, as `python -m bench.serve --soak` says it."""
    options.engine(backend)
    with Served(options.bundle, [*SETTINGS, f"backend={backend}"], options.output / "soak.log") as served:
        say("  expected scores …")
        shots = Shots.of(options.bundle, backend, served.url, tolerance=tolerance)
        return {"soak": soak(served, shots, requests=requests, clients=clients)}
