"""The pipeline for asyncio: the same answers, whatever else is going on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage.errors import UserError
from secondstage.run import Scores
from secondstage.serve import AsyncPipeline, Pipeline, SearchOptions

QUERIES = ["key of the piano", "water of the river", "a king and his queen", "unheard of"]


@pytest.fixture(scope="module")
def pipeline(run_folder: Path) -> Pipeline:
    return Pipeline.load(run_folder / "bundle")


def test_answers_are_those_of_the_pipeline(pipeline: Pipeline) -> None:
    async def search() -> list[list[str]]:
        async with AsyncPipeline(pipeline) as searcher:
            one = await searcher.search(QUERIES[0], SearchOptions(top_n=3))
            many = await searcher.search_many(QUERIES, SearchOptions(top_n=3))
        return [[result.doc_id for result in answer.results] for answer in (one, *many)]

    expected = [[result.doc_id for result in pipeline.search(query, 3)] for query in QUERIES]
    assert asyncio.run(search()) == [expected[0], *expected]


def test_mistakes_are_raised_where_it_is_awaited(pipeline: Pipeline) -> None:
    async def search() -> None:
        async with AsyncPipeline(pipeline) as searcher:
            with pytest.raises(UserError, match="the query is empty"):
                await searcher.search(" ")
            with pytest.raises(UserError, match="no document has"):
                await searcher.search("water", SearchOptions(where={"year": 1}))
            assert len((await searcher.search("water")).results) == 10
            timed = await searcher.search("water", SearchOptions(latency_ms=60000, pack_tokens=30))
            assert (timed.trace.depth, bool(timed.context)) == (pipeline.depth, True)
        with pytest.raises(RuntimeError, match="async with"):
            await searcher.search("water")

    asyncio.run(search())


def test_a_batch_has_no_budget(pipeline: Pipeline) -> None:
    async def search() -> None:
        async with AsyncPipeline(pipeline) as searcher:
            with pytest.raises(UserError, match="latency_ms is the budget of one search"):
                await searcher.search_many(QUERIES, SearchOptions(latency_ms=5))

    asyncio.run(search())


def test_what_was_scored_does_not_wait_for_retrievals(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go, retrieve = threading.Event(), threading.Event(), pipeline.first_stage.search

    def held(queries: Sequence[str], depth: int) -> Any:
        if list(queries) == [QUERIES[1]]:
            begun.set()
            assert go.wait(20)
        return retrieve(queries, depth)

    class Patient:
        def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
            assert begun.wait(20)  # the other one is being retrieved
            return np.zeros(len(pairs), np.float32)

    monkeypatch.setattr(pipeline.first_stage, "search", held)

    async def search() -> None:
        async with AsyncPipeline(pipeline.with_scorer(Patient())) as searcher:
            one, other = (asyncio.create_task(searcher.search(query)) for query in QUERIES[:2])
            try:
                assert len((await asyncio.wait_for(one, 10)).results) == 10
                assert not other.done()
            finally:
                go.set()
            await other

    asyncio.run(search())


class Held:
    """Scores when it is let to; keeps the threads that called it."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.threads: list[str] = []

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        self.begun.set()
        assert self.go.wait(20)
        self.threads.append(threading.current_thread().name)
        return np.zeros(len(pairs), np.float32)


def test_a_cancelled_search_leaves_the_others_alone(pipeline: Pipeline) -> None:
    held = Held()

    async def search() -> int:
        async with AsyncPipeline(pipeline.with_scorer(held)) as searcher:
            tasks = [asyncio.create_task(searcher.search(query)) for query in QUERIES]
            await asyncio.to_thread(held.begun.wait, 20)
            tasks[0].cancel()  # being scored
            tasks[2].cancel()  # waits
            held.go.set()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert [isinstance(each, asyncio.CancelledError) for each in found] == [True, False, True, False]
            assert len((await searcher.search("water")).results) == 10
        return len(held.threads)

    # The one that had begun was scored to its end; the one that waited was not.
    assert asyncio.run(search()) == 4
    assert set(held.threads) == {"secondstage-second_0"}
