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
from .cascade import Ask, advance
from .options import SearchOptions
from .pipeline import Pipeline


class AsyncPipeline:
    """A pipeline whose searches are awaited: `async with AsyncPipeline(pipeline) as searcher`.

    One thread retrieves, another scores, so that the next query is retrieved while the last one is scored. A search
    that is cancelled computes at most what a thread has begun; nothing of it is left to the others.
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
        asking, scorers = self.pipeline.asking(query, options), self.pipeline.scorers
        if options is not None and options.latency_ms is not None:
            await _in(second, partial(self.pipeline.pace, measured=True))
        asked = await _in(first, advance, asking, None)
        while isinstance(asked, Ask):
            scores = await _in(second, scorers[asked.stage].score, asked.pairs)
            asked = await _in(first, advance, asking, scores)
        answer: Answer = asked.value
        return answer

    async def search_many(self, queries: Sequence[str], options: SearchOptions | None = None) -> list[Answer]:
        """The answers of several queries, in their order."""
        return list(await asyncio.gather(*(self.search(query, options) for query in queries)))


async def _in(thread: ThreadPoolExecutor, function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)
