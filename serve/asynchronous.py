"""The pipeline for asyncio: searches of many tasks, their scores computed by one thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any

from typing_extensions import Self

from .answer import Answer
from .cascade import Ask, Asking, Made, advance
from .options import SearchOptions
from .pipeline import Pipeline


class AsyncPipeline:
    """A pipeline whose searches are awaited: `async with AsyncPipeline(pipeline) as searcher`.

    One thread retrieves, another scores and makes the answer, so that the next query is retrieved while the last one is
    scored, and none that was scored waits for retrievals. A search that is cancelled computes at most what a thread has
    begun; nothing of it is left to the others.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._threads: tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None = None

    async def __aenter__(self) -> Self:
        self._threads = ThreadPoolExecutor(1, "secondstage-first"), ThreadPoolExecutor(1, "secondstage-second")
        # The tokenizer is copied before two threads use it.
        await _in(self._threads[1], self.pipeline.count_tokens, "")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        threads, self._threads = self._threads, None
        for thread in threads or ():
            await asyncio.to_thread(thread.shutdown, wait=True, cancel_futures=True)

    async def search(self, query: str, options: SearchOptions | None = None) -> Answer:
        """What `Pipeline.answer` gives.

        Raises:
            UserError: as `Pipeline.search` does.
            RuntimeError: outside of `async with`.
        """
        if self._threads is None:
            raise RuntimeError("an AsyncPipeline searches within `async with` alone")
        first, second = self._threads
        if options is not None and options.latency_ms is not None and self.pipeline.pace(measured=False) is None:
            await _in(second, partial(self.pipeline.pace, measured=True))
        asking = self.pipeline.asking(query, options)
        asked = await _in(first, advance, asking, None)
        while isinstance(asked, Ask):
            asked = await _in(second, self._go_on, asking, asked)
        answer: Answer = asked.value
        return answer

    def _go_on(self, asking: Asking[Answer], asked: Ask) -> Ask | Made[Answer]:
        return advance(asking, self.pipeline.scorers[asked.stage].score(asked.pairs))

    async def search_many(self, queries: Sequence[str], options: SearchOptions | None = None) -> list[Answer]:
        """The answers of several queries, in their order.

        Raises:
            UserError: as `Pipeline.search_many` does.
        """
        (options or SearchOptions()).check_batch()
        return list(await asyncio.gather(*(self.search(query, options) for query in queries)))


async def _in(thread: ThreadPoolExecutor, function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)
