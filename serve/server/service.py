"""The core of the server, without HTTP: a pipeline, what fills its batches, and the signals."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from secondstage.config import ServerConfig
from secondstage.run import Scores

from ..answer import Answer
from ..cascade import Ask, Asking, Made, advance
from ..options import SearchOptions
from ..pipeline import Pipeline
from .batcher import Batcher
from .conventions import Asked
from .engine import ModelEngine
from .errors import ExpiredError, MissingError, OverloadedError, StoppingError, time_left
from .signals import Batch, Judged, Reranked, Searched, Signals, Silent

log = logging.getLogger("secondstage.server")

# Judgements that wait for the disk: it takes them one by one.
MOST_JUDGEMENTS = 256


class Found(NamedTuple):
    """The answer to a search.

    Attributes:
        request_id: of the answer.
        answer: what was found.
        queue_ms: that its pairs waited, in all stages.
        total_ms: that it took.
    """

    request_id: str
    answer: Answer
    queue_ms: float
    total_ms: float


class Logits(NamedTuple):
    """The answer to a rerank request.

    Attributes:
        values: `[pairs]`.
        tokens: of all pairs.
    """

    values: Scores
    tokens: int


class Service:
    """Answers searches and rerank requests; `make_app` puts HTTP in front of it.

    Attributes:
        pipeline: the bundle's.
        config: the server's.
        signals: are told of everything.
        bundle: which one is served, by its fingerprint.
        name: of what is served, as answers tell it.
        batchers: of each reranker of the pipeline; rerank requests go to the last.
        draining: whether no more requests are accepted.
        ended: set when there is no more time for those that were.
        open: requests that were accepted and have no answer yet.
        searches: how many of them are searches.
        judging: how many of them are judgements.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        config: ServerConfig,
        signals: Signals | None = None,
        *,
        name: str = "secondstage",
        keep: Callable[[Judged], None] | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            pipeline: the bundle's.
            config: the server's.
            signals: none tells nobody.
            name: of the bundle.
            keep: writes a judgement to the disk; none takes no judgement.
        """
        self.pipeline, self.config = pipeline, config
        self.signals: Signals = signals or Silent()
        self.bundle, self.name = name, config.model or name
        self.draining, self.ended = False, asyncio.Event()
        self.open = self.searches = self.judging = 0
        self._keep = keep
        self._empty = asyncio.Event()
        self._empty.set()
        # What a bundle holds are models; their pairs are tokenised here, once.
        models = pipeline.rerankers
        # As many threads score as an engine wants. One tokenises the next requests meanwhile, for a tokenizer does not
        # bear two threads; one searches the first stage. So every request is in one at a time.
        self._computing = ThreadPoolExecutor(max(model.threads for model in models), "secondstage-score")
        self._preparing, self._searching, self._writing = (
            ThreadPoolExecutor(1, f"secondstage-{name}") for name in ("tokens", "search", "write")
        )
        turn, self._pen = asyncio.Lock(), asyncio.Lock()
        self.batchers = tuple(
            Batcher(
                ModelEngine(model, config.batch_tokens),
                queue_tokens=config.queue_tokens,
                wait_ms=config.batch_wait_ms,
                computing=self._computing,
                preparing=self._preparing,
                turn=turn,
                told=self._scored,
                stage=stage,
            )
            for stage, model in enumerate(models)
        )

    async def search(
        self, query: str, options: SearchOptions, *, request_id: str | None = None, deadline: float | None = None
    ) -> Found:
        """Search the bundle.

        Args:
            query: its text.
            options: the rest.
            request_id: none makes one.
            deadline: as `time.monotonic` tells.

        Raises:
            UserError: an option makes no sense for this bundle.
            OverloadedError: too many searches are under way.
            ExpiredError: the deadline passed first, in whichever stage.
            RefusalError: see `Batcher.score`.
        """
        request_id, start = request_id or new_id(), time.perf_counter()
        if self.searches >= self.config.max_searches:
            raise OverloadedError(max(batcher.retry_after for batcher in self.batchers))
        left = time_left(deadline)
        with self._accepted():
            self.searches += 1
            try:
                answer, queued = await asyncio.wait_for(self._search(query, options), left)
            except asyncio.TimeoutError:
                raise ExpiredError from None
            finally:
                self.searches -= 1
        total = 1000 * (time.perf_counter() - start)
        event = Searched(request_id, query, answer, queued, total, filtered=options.where is not None)
        self.tell(partial(self.signals.searched, event))
        return Found(request_id, answer, queued, total)

    async def _search(self, query: str, options: SearchOptions) -> tuple[Answer, float]:
        """The answer, and the milliseconds that its pairs waited. Cancelled, it begins nothing more."""
        asking, queued = self.pipeline.asking(query, options), 0.0
        asked = await self._advance(asking, None)
        while isinstance(asked, Ask):
            scored = await self.batchers[asked.stage].score(asked.pairs)
            queued += scored.queue_ms
            asked = await self._advance(asking, scored.logits)
        return asked.value, queued

    async def rerank(self, asked: Asked, *, request_id: str | None = None, deadline: float | None = None) -> Logits:
        """Score the pairs of a rerank request; `RefusalError` as of `Batcher.score`."""
        request_id, start = request_id or new_id(), time.perf_counter()
        with self._accepted():
            scored = await self.batchers[-1].score(asked.pairs, deadline=deadline, limits=asked.limits)
        total = 1000 * (time.perf_counter() - start)
        event = Reranked(request_id, asked.api, asked.pairs, scored.logits, scored.tokens, scored.queue_ms, total)
        self.tell(partial(self.signals.reranked, event))
        return Logits(scored.logits, scored.tokens)

    async def judge(self, judged: Judged, *, deadline: float | None = None) -> None:
        """Keep a judgement; when this returns, the disk has it.

        Args:
            judged: what was said.
            deadline: as `time.monotonic` tells; one that was being written when it passed may be kept.

        Raises:
            MissingError: nobody said where.
            OverloadedError: too many wait to be written.
            ExpiredError: the deadline passed first.
        """
        if self._keep is None:
            raise MissingError("judgements are not kept here: start the server with judgements=FILE")
        if self.judging >= MOST_JUDGEMENTS:
            raise OverloadedError(1)
        left = time_left(deadline)
        with self._accepted():
            self.judging += 1
            try:
                await asyncio.wait_for(self._write(partial(self._keep, judged)), left)
            except asyncio.TimeoutError:
                raise ExpiredError from None
            finally:
                self.judging -= 1
        self.tell(partial(self.signals.judged, judged))

    async def _write(self, keep: Callable[[], None]) -> None:
        """Have it written. Who gives up while it is has no other begin before it is done: a disk may hang."""
        await self._pen.acquire()
        written = asyncio.get_running_loop().run_in_executor(self._writing, keep)
        written.add_done_callback(lambda _: self._pen.release())
        await asyncio.shield(written)

    @property
    def keeps_judgements(self) -> bool:
        """Whether somebody said where."""
        return self._keep is not None

    async def drain(self) -> None:
        """Accept no more requests, and return when every accepted one has its answer."""
        self.draining = True
        await self._empty.wait()
        await asyncio.gather(*(batcher.drain() for batcher in self.batchers))

    def close(self) -> None:
        """End the threads; after `drain`."""
        for pool in (self._computing, self._preparing, self._searching, self._writing):
            pool.shutdown()
        self.tell(self.signals.close)

    def tell(self, hook: Callable[[], None]) -> None:
        """Call a hook of the signals; no request fails for it."""
        try:
            hook()
        except Exception:  # of any signal
            log.exception("a signal failed")

    def refused(self, request_id: str, api: str, status: int, kind: str) -> None:
        """Tell of a request that got no answer."""
        self.tell(partial(self.signals.refused, request_id, api, status, kind))

    def metrics(self) -> tuple[bytes, str]:
        """The metrics as text, and its content type."""
        for stage, batcher in enumerate(self.batchers):
            self.tell(partial(self.signals.queued, stage, batcher.tokens))
        return self.signals.render()

    def _scored(self, event: Batch) -> None:
        self.tell(partial(self.signals.batch, event))
        self.tell(partial(self.signals.queued, event.stage, self.batchers[event.stage].tokens))

    async def _advance(self, asking: Asking[Answer], scores: Scores | None) -> Ask | Made[Answer]:
        return await asyncio.get_running_loop().run_in_executor(self._searching, advance, asking, scores)

    @contextmanager
    def _accepted(self) -> Iterator[None]:
        """From here on the request gets an answer, whatever happens to the server."""
        if self.draining:
            raise StoppingError
        self.open += 1
        self._empty.clear()
        try:
            yield
        finally:
            self.open -= 1
            if not self.open:
                self._empty.set()


def new_id() -> str:
    """Of a request."""
    return str(uuid.uuid4())
