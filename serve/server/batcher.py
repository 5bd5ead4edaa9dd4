"""Batches across requests: pairs of similar length are scored together, whoever sent them (`rotation.py`)."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np

from secondstage.run import Scores
from secondstage.scoring import as_scores

from .engine import Engine, Limits
from .errors import BrokenError, ExpiredError, OverloadedError, StoppingError, TooLargeError, time_left
from .rotation import Pick, Rotation, Waiting
from .signals import Batch

log = logging.getLogger("secondstage.server")

# How much of the measured rate stays, batch by batch.
STAYS = 0.9
# Characters of a token, for a guess before the tokenizer has counted.
CHARACTERS = 4
LONGEST_RETRY = 60


class Scored(NamedTuple):
    """The answer to one request.

    Attributes:
        logits: `[pairs]`, in their order.
        tokens: of all pairs, without padding.
        queue_ms: from the request to its first batch.
    """

    logits: Scores
    tokens: int
    queue_ms: float


class Batcher:
    """Fills batches of one model.

    Attributes:
        tokens: of the pairs that have no score yet; never more than `queue_tokens`.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        queue_tokens: int,
        wait_ms: float = 0.0,
        computing: Executor,
        preparing: Executor,
        turn: asyncio.Lock | None = None,
        told: Callable[[Batch], None] = lambda event: None,
        stage: int = 0,
    ) -> None:
        """Start nothing yet: the first request does.

        Args:
            engine: tokenises and scores.
            queue_tokens: that may wait.
            wait_ms: for which an idle batcher waits for company, where a request does not fill a batch.
            computing: as many threads as the engine wants, which score.
            preparing: one thread, which tokenises.
            turn: is held by who scores, where several batchers share the thread.
            told: of every batch, in the event loop's thread.
            stage: of the cascade, for `told`.
        """
        self.engine, self.queue_tokens = engine, queue_tokens
        self.tokens = 0
        self._wait = wait_ms / 1000
        self._computing, self._preparing = computing, preparing
        self._turn = turn or asyncio.Lock()
        self._told, self._stage = told, stage
        self._rotation = Rotation()
        self._accepted: set[Waiting] = set()
        self._computed, self._seconds = 0.0, 0.0
        self._open, self._closed = 0, False
        self._wake, self._empty = asyncio.Event(), asyncio.Event()
        self._empty.set()
        self._worker: asyncio.Task[None] | None = None

    async def score(
        self, pairs: Sequence[tuple[str, str]], *, deadline: float | None = None, limits: Limits | None = None
    ) -> Scored:
        """Score (query text, document text) pairs; cancelled, its pairs leave the queue.

        Args:
            pairs: `[n]`.
            deadline: as `time.monotonic` tells.
            limits: what is cut.

        Raises:
            OverloadedError: the queue has no room for them now.
            TooLargeError: it never has.
            ExpiredError: the deadline passed first.
            BrokenError: the model failed on these pairs.
            StoppingError: `drain` was called.
        """
        if self._closed:
            raise StoppingError
        if not pairs:
            return Scored(np.zeros(0, np.float32), 0, 0.0)
        left = time_left(deadline)
        self._open += 1
        self._empty.clear()
        try:
            return await asyncio.wait_for(self._score(pairs, limits or Limits()), left)
        except asyncio.TimeoutError:
            raise ExpiredError from None
        finally:
            self._open -= 1
            if not self._open:
                self._empty.set()

    async def drain(self) -> None:
        """Accept no more, and return when every accepted request has its answer."""
        self._closed = True
        await self._empty.wait()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
            self._worker = None

    @property
    def retry_after(self) -> int:
        """Seconds until what waits is scored, at the measured rate."""
        return min(max(math.ceil(self.tokens / self.tokens_per_second), 1), LONGEST_RETRY)

    @property
    def tokens_per_second(self) -> float:
        """The rate of the last batches; infinite before the first."""
        return self._computed / self._seconds if self._seconds else math.inf

    async def _score(self, pairs: Sequence[tuple[str, str]], limits: Limits) -> Scored:
        loop, arrived = asyncio.get_running_loop(), time.monotonic()
        # What the tokenizer has not counted yet is guessed, so that what waits for it is bounded as well.
        guess = sum(min(self.engine.longest, 8 + sum(map(len, pair)) // CHARACTERS) for pair in pairs)
        guess = min(guess, self.queue_tokens)
        self._reserve(guess)
        try:
            rows = await loop.run_in_executor(self._preparing, self.engine.prepare, pairs, limits)
        finally:
            self.tokens -= guess
        request = Waiting(rows, loop.create_future())
        tokens = request.tokens
        if tokens > self.queue_tokens:
            raise TooLargeError(f"the request has {tokens} tokens, more than the {self.queue_tokens} that may wait")
        self._reserve(tokens)
        try:
            self._accepted.add(request)
            self._rotation.add(request)
            self._wake.set()
            if self._worker is None:
                self._worker = loop.create_task(self._work())
            logits = await request.future
        finally:
            # Done already, or the caller was cancelled: in either case nothing of it is computed any more.
            if not request.future.cancel() and not request.future.cancelled():
                request.future.exception()
            self._accepted.discard(request)
            self.tokens -= request.tokens
            request.tokens = 0
        return Scored(logits, tokens, 1000 * ((request.started or arrived) - arrived))

    def _reserve(self, tokens: int) -> None:
        if self.tokens + tokens > self.queue_tokens:
            raise OverloadedError(self.retry_after)
        self.tokens += tokens

    async def _work(self) -> None:
        """Fill batches for ever; a fault that is no batch's own breaks what was accepted, never what comes after."""
        while True:
            try:
                await self._fill()
            except Exception as error:  # whoever waits would wait for ever
                log.exception("the batcher failed: %s", error)
                self._rotation = Rotation()
                for request in self._accepted:
                    if not request.future.done():
                        request.future.set_exception(BrokenError())

    async def _fill(self) -> None:
        loop, idle = asyncio.get_running_loop(), True
        while True:
            if not self._rotation:
                self._wake.clear()
                await self._wake.wait()
                idle = True
            if idle and self._wait and self._rotation.tokens < self.engine.batch_tokens:
                await asyncio.sleep(self._wait)
            idle = False
            async with self._turn:
                threads = self.engine.threads
                window = self._rotation.window(self.engine)
                parts = [window[i::threads] for i in range(min(threads, len(window)))]
                await asyncio.gather(
                    *(loop.run_in_executor(self._computing, self._compute, part, loop) for part in parts)
                )

    def _compute(self, batches: list[list[Pick]], loop: asyncio.AbstractEventLoop) -> None:
        """Score batches one by one, in a computing thread, without waiting for the event loop in between."""
        for batch in batches:
            live = [pick for pick in batch if not pick.request.future.done()]
            if live:
                start = time.monotonic()
                scores = self._scores(live)
                loop.call_soon_threadsafe(self._deliver, live, scores, start, time.monotonic() - start)

    def _scores(self, picks: list[Pick]) -> list[float]:
        """Of each pair; if the model fails, of each request alone, and NaN where it fails again.

        So a failure is only of the request that causes it.
        """
        try:
            return [float(score) for score in as_scores(self.engine.compute([pick.row for pick in picks]), len(picks))]
        except Exception as error:  # whatever an engine raises, the thread has to go on
            requests = list(dict.fromkeys(pick.request for pick in picks))
            if len(requests) == 1:
                log.exception("the model failed on a batch of %d pairs: %s", len(picks), error)
                return [math.nan] * len(picks)
        found = {request: iter(self._scores([p for p in picks if p.request is request])) for request in requests}
        return [next(found[pick.request]) for pick in picks]

    def _deliver(self, batch: list[Pick], scores: list[float], start: float, seconds: float) -> None:
        """Hand out a batch's scores, in the event loop's thread."""
        tokens = sum(pick.row.tokens for pick in batch)
        self._computed = STAYS * self._computed + tokens
        self._seconds = STAYS * self._seconds + seconds / self.engine.threads
        for pick, score in zip(batch, scores, strict=True):
            request = pick.request
            if request.future.done():
                continue
            request.started = request.started or start
            request.tokens -= pick.row.tokens
            self.tokens -= pick.row.tokens
            request.scores[pick.place] = score
            request.missing -= 1
            if not math.isfinite(score):
                request.future.set_exception(BrokenError())
            elif not request.missing:
                request.future.set_result(request.scores)
        longest = max(pick.row.tokens for pick in batch)
        self._told(Batch(self._stage, len(batch), tokens, longest * len(batch), self.engine.batch_tokens, seconds))
