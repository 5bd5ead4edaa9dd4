"""Batches across requests: every request gets its own scores, once, whatever the others do."""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from itertools import count
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.run import Scores
from secondstage.serve.server.batcher import STAYS, Batcher, Scored
from secondstage.serve.server.engine import Row
from secondstage.serve.server.errors import BrokenError, ExpiredError, OverloadedError, StoppingError, TooLargeError
from secondstage.serve.server.signals import Batch

from .engines import FakeEngine, batching, until


def pairs(scores: range, tokens: int = 5) -> list[tuple[str, str]]:
    return [(str(score), "x" * tokens) for score in scores]


class GatedEngine(FakeEngine):
    """Computes nothing before its gate is open; on a clock of its own a pair takes an eighth of a second."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.gate = threading.Event(), threading.Event()
        self.now = 0.0

    def compute(self, rows: Sequence[Row]) -> Scores:
        self.entered.set()
        assert self.gate.wait(30)
        self.now += len(rows) / 8
        return super().compute(rows)


async def together(
    batcher: Batcher, engine: GatedEngine, *requests: list[tuple[str, str]]
) -> list[Scored | BaseException]:
    """The answers to requests that wait at the same time: all of them, before a first one, 99, has its score."""
    first = asyncio.create_task(batcher.score([("99", "x")]))
    await until(engine.entered.is_set)
    asked = asyncio.gather(*map(batcher.score, requests), return_exceptions=True)
    await until(lambda: batcher.tokens == 1 + sum(len(document) for request in requests for _, document in request))
    engine.gate.set()
    assert (await first).logits.tolist() == [99]
    return await asked


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(0, 90), max_size=30), min_size=1, max_size=25),
    batch_tokens=st.sampled_from([64, 100, 256]),
    seed=st.integers(0, 1000),
)
def test_every_request_gets_exactly_its_own_scores(lengths: list[list[int]], batch_tokens: int, seed: int) -> None:
    """Many at once, some of which are given up: the others are answered, the queue stays bounded, nothing is left."""
    engine, draw, number = FakeEngine(), random.Random(seed), count()
    bound = 1500
    requests = [[(str(next(number)), "x" * length) for length in row] for row in lengths]

    async def ask(batcher: Batcher, request: list[tuple[str, str]]) -> object:
        await asyncio.sleep(draw.random() / 500)
        task = asyncio.create_task(batcher.score(request))
        if draw.random() < 0.2:
            await asyncio.sleep(draw.random() / 500)
            task.cancel()
        try:
            scored = await task
        except (asyncio.CancelledError, OverloadedError, TooLargeError) as error:
            return error
        finally:
            assert batcher.tokens <= bound
        assert scored.tokens == sum(max(len(document), 1) for _, document in request)
        return scored.logits.tolist()

    async def main() -> list[object]:
        with batching(engine, queue_tokens=bound, batch_tokens=batch_tokens) as batcher:
            answers = await asyncio.gather(*(ask(batcher, request) for request in requests))
            await batcher.drain()
            assert batcher.tokens == 0
            return answers

    computed: Counter[float] = Counter()
    for request, answer in zip(requests, asyncio.run(main()), strict=True):
        own = [float(query) for query, _ in request]
        if isinstance(answer, list):
            assert answer == own
            computed.update(own)
        else:
            assert not isinstance(answer, TooLargeError) or sum(len(document) for _, document in request) > bound - 30
    times = Counter(score for batch in engine.batches for score in batch)
    assert all(times[score] == 1 for score in computed)
    assert max(times.values(), default=1) == 1
    longest = max((length for row in lengths for length in row), default=1)
    assert all(padded <= max(batch_tokens, longest, 1) for padded in engine.padded)


def test_requests_share_batches_of_similar_length() -> None:
    engine = GatedEngine()

    async def main() -> None:
        with batching(engine) as batcher:
            mixed = [("1", "x" * 4), ("2", "x" * 32)], [("3", "x" * 32), ("4", "x" * 4)]
            await together(batcher, engine, *mixed)

    asyncio.run(main())
    assert [sorted(batch) for batch in engine.batches] == [[99], [2, 3], [1, 4]]


def test_an_idle_batcher_waits_for_company_but_not_where_a_batch_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, sleep, waited = FakeEngine(), asyncio.sleep, list[float]()

    async def main() -> None:
        over = asyncio.Event()

        async def wait(seconds: float) -> None:
            if seconds == 7:
                waited.append(seconds)
                await over.wait()
            else:
                await sleep(seconds)

        monkeypatch.setattr(asyncio, "sleep", wait)
        over.set()
        with batching(engine, wait_ms=7000) as batcher:
            await batcher.score(pairs(range(9, 10), 64))
        assert not waited
        over.clear()
        with batching(engine, wait_ms=7000) as batcher:
            first = asyncio.create_task(batcher.score(pairs(range(1))))
            await until(lambda: waited)
            second = asyncio.create_task(batcher.score(pairs(range(1, 2))))
            await until(lambda: batcher.tokens == 10)
            over.set()
            await asyncio.gather(first, second)

    asyncio.run(main())
    assert engine.batches == [[9], [0, 1]]
    assert waited == [7]


def test_a_large_request_neither_holds_up_small_ones_nor_starves() -> None:
    engine, done = FakeEngine(0.001), []

    async def main() -> None:
        with batching(engine) as batcher:

            async def ask(name: str, scores: range) -> None:
                await batcher.score(pairs(scores, 8))
                done.append(name)

            large = asyncio.create_task(ask("large", range(800)))
            await until(lambda: engine.batches)
            for i in range(10):
                await ask(f"small {i}", range(1000 + i, 1001 + i))
            assert "large" not in done  # 100 batches, of which each small one waited for a window at most
            endless = [asyncio.create_task(ask("other", range(2000 + i, 2040 + i))) for i in range(0, 4000, 40)]
            await large
            assert done.count("other") < 100
            for task in endless:
                task.cancel()
            await asyncio.gather(*endless, return_exceptions=True)

    asyncio.run(main())


def test_a_full_queue_refuses_and_says_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = GatedEngine()
    engine.threads = 2
    monkeypatch.setattr("secondstage.serve.server.batcher.time", SimpleNamespace(monotonic=lambda: engine.now))

    async def main() -> None:
        with batching(engine, queue_tokens=100) as batcher:
            first = asyncio.create_task(batcher.score(pairs(range(8), 12)))
            await until(lambda: batcher.tokens == 96)
            with pytest.raises(OverloadedError, match="try again in 1 s") as caught:
                await batcher.score(pairs(range(8, 9), 12))
            assert caught.value.retry_after == 1
            engine.gate.set()
            await first
            with pytest.raises(TooLargeError, match="101 tokens, more than the 100 that may wait"):
                await batcher.score(pairs(range(9, 10), 101))
            assert (await batcher.score(pairs(range(10, 11), 100))).logits.tolist() == [10]
            assert [len(batch) for batch in engine.batches] == [5, 3, 1]
            # Two threads do in half the time what each batch takes, and an older batch counts less.
            seconds = (5 * STAYS**2 + 3 * STAYS + 1) / 8 / 2
            rate = (60 * STAYS**2 + 36 * STAYS + 100) / seconds
            assert batcher.tokens_per_second == pytest.approx(rate)
            batcher.tokens = 10_000
            assert batcher.retry_after == math.ceil(10_000 / rate)

    asyncio.run(main())


def test_what_was_given_up_is_not_computed() -> None:
    engine = FakeEngine(0.02)

    async def main() -> None:
        with batching(engine) as batcher:
            large = asyncio.create_task(batcher.score(pairs(range(800), 8)))
            await until(lambda: len(engine.batches) >= 2)
            large.cancel()
            await asyncio.gather(large, return_exceptions=True)
            assert batcher.tokens == 0
            begun = len(engine.batches) + 1
            assert (await batcher.score(pairs(range(1000, 1001)))).logits.tolist() == [1000]
            assert len(engine.batches) <= begun + 1

    asyncio.run(main())
    assert engine.batches[-1] == [1000]


def test_a_deadline_ends_a_request_before_its_turn() -> None:
    engine = GatedEngine()

    async def main() -> None:
        with batching(engine) as batcher:
            first = asyncio.create_task(batcher.score(pairs(range(1))))
            await until(engine.entered.is_set)
            start = time.monotonic()
            with pytest.raises(ExpiredError, match="deadline"):
                await batcher.score(pairs(range(1, 2)), deadline=start + 0.02)
            with pytest.raises(ExpiredError):
                await batcher.score(pairs(range(2, 3)), deadline=start)
            assert not first.done()
            engine.gate.set()
            assert (await first).logits.tolist() == [0]
            await batcher.drain()

    asyncio.run(main())
    assert engine.batches == [[0]]


@pytest.mark.parametrize("score", ["nan", "inf", "-inf"])
def test_a_broken_score_is_an_error_of_its_request_alone(score: str) -> None:
    """The engine raises at -inf: then each request is computed alone."""

    engine = GatedEngine()

    async def main() -> None:
        with batching(engine) as batcher:
            broken, sound = await together(batcher, engine, [("1", "x"), (score, "x")], pairs(range(2, 4)))
            assert len(engine.batches[1]) == 4
            assert isinstance(broken, BrokenError)
            assert not isinstance(sound, BaseException)
            assert sound.logits.tolist() == [2, 3]
            assert batcher.tokens == 0

    asyncio.run(main())


def test_a_fault_of_the_batcher_breaks_what_waits_and_not_what_comes_after(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = GatedEngine()

    async def main() -> None:
        with batching(engine) as batcher:
            with monkeypatch.context() as broken:
                broken.setattr(engine, "cut", lambda lengths: [[0]] if len(lengths) == 1 else 1 // 0)
                asked = [pairs(range(i, i + 3)) for i in range(4)]
                faults = await asyncio.wait_for(together(batcher, engine, *asked), 60)
            assert [type(fault) for fault in faults] == [BrokenError] * 4
            assert batcher.tokens == 0
            assert (await batcher.score(pairs(range(2)))).logits.tolist() == [0, 1]
            await batcher.drain()

    asyncio.run(main())


def test_draining_answers_what_was_accepted_and_accepts_no_more() -> None:
    engine = FakeEngine(0.005)

    async def main() -> None:
        with batching(engine) as batcher:
            tasks = [asyncio.create_task(batcher.score(pairs(range(10 * i, 10 * i + 10)))) for i in range(20)]
            await until(lambda: engine.batches)
            draining = asyncio.create_task(batcher.drain())
            await asyncio.sleep(0)
            with pytest.raises(StoppingError):
                await batcher.score(pairs(range(1)))
            await draining
            assert all(task.done() for task in tasks)
            for i, task in enumerate(tasks):
                assert task.result().logits.tolist() == list(range(10 * i, 10 * i + 10))

    asyncio.run(main())


def test_every_batch_is_told() -> None:
    told: list[Batch] = []

    async def main() -> None:
        with batching(FakeEngine(), told=told.append, stage=2) as batcher:
            scored = await batcher.score([("1", "xx"), ("2", "xxxx")])
            assert scored.tokens == 6
            assert (await batcher.score([])).logits.tolist() == []

    asyncio.run(main())
    ((stage, count, tokens, padded, capacity, seconds),) = told
    assert (stage, count, tokens, padded, capacity) == (2, 2, 6, 8, 64)
    assert seconds > 0
