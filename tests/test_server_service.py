"""The core of the server: a search keeps its deadline in every stage, and there are never too many."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from typing import Any, cast

import pytest

from secondstage.run import Scores
from secondstage.serve.answer import Answer
from secondstage.serve.cascade import Ask
from secondstage.serve.options import SearchOptions
from secondstage.serve.server.errors import ExpiredError, OverloadedError
from secondstage.serve.server.service import Service
from secondstage.serve.server.signals import Judged

from .engines import until
from .serving import make_service


def pipeline_of(service: Service) -> Any:
    return cast(Any, service.pipeline)


def close(service: Service) -> None:
    for batcher in service.batchers:
        assert batcher.tokens == 0
    service.close()


def skip(seconds: float) -> None:
    """Let so much time pass for the event loop that runs, at once."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds  # type: ignore[method-assign]


def test_a_slow_first_stage_does_not_outlive_the_deadline() -> None:
    service, entered, gate = make_service(), threading.Event(), threading.Event()
    asking = pipeline_of(service).asking

    def slow(query: str, options: SearchOptions) -> Generator[Ask, Scores, Answer]:
        entered.set()
        assert gate.wait(30)
        answer: Answer = yield from asking(query, options)
        return answer

    pipeline_of(service).asking = slow

    async def main() -> None:
        late = time.monotonic() + 600
        asked = [service.search("bread", SearchOptions(), deadline=late) for _ in range(5)]
        refusals = asyncio.gather(*asked, return_exceptions=True)
        await until(entered.is_set)
        skip(600)
        assert [type(refusal) for refusal in await refusals] == [ExpiredError] * 5
        gate.set()
        await service.drain()

    asyncio.run(main())
    close(service)
    # Who waited for the first one has given up before its turn.
    assert pipeline_of(service).searched == 1


def test_too_many_searches_are_refused() -> None:
    service = make_service(max_searches=2)
    pipeline_of(service).first_stage_seconds = 0.05

    async def main() -> None:
        for _ in range(2):
            asked = [service.search("bread", SearchOptions()) for _ in range(5)]
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert [isinstance(answer, OverloadedError) for answer in found] == [False, False, True, True, True]
        assert (service.searches, service.open) == (0, 0)
        await service.drain()

    asyncio.run(main())
    close(service)


def test_judgements_do_not_outlive_their_deadline_or_wait_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secondstage.serve.server.service.MOST_JUDGEMENTS", 3)
    kept: list[Judged] = []
    entered, disk = threading.Event(), threading.Event()

    def keep(judged: Judged) -> None:
        entered.set()
        assert disk.wait(30)
        kept.append(judged)

    service = make_service(keep=keep)
    judged = Judged(None, "bread", "a", 1, "judgement")

    async def main() -> None:
        late = time.monotonic() + 600
        asked = [service.judge(judged._replace(relevance=i), deadline=late) for i in range(5)]
        refusals = asyncio.gather(*asked, return_exceptions=True)
        await until(entered.is_set)
        skip(600)
        assert [type(refusal) for refusal in await refusals] == [ExpiredError] * 3 + [OverloadedError] * 2
        assert (service.judging, service.open) == (0, 0)
        disk.set()
        await service.judge(judged, deadline=time.monotonic() + 60)
        await service.drain()

    asyncio.run(main())
    close(service)
    # The first was being written already; the others had not begun.
    assert [each.relevance for each in kept] == [0, 1]


def test_a_search_without_a_deadline_takes_its_time() -> None:
    service = make_service()
    pipeline_of(service).first_stage_seconds = 0.05

    async def main() -> list[str]:
        found = await service.search("bread", SearchOptions())
        await service.drain()
        return [result.doc_id for result in found.answer.results]

    assert asyncio.run(main()) == ["b", "a", "c"]
    close(service)


@pytest.mark.parametrize("left", [0.0, -1.0])
def test_a_deadline_that_has_passed_begins_nothing(left: float) -> None:
    service = make_service()

    async def main() -> None:
        with pytest.raises(ExpiredError):
            await service.search("bread", SearchOptions(), deadline=time.monotonic() + left)
        await service.drain()

    asyncio.run(main())
    close(service)
    assert pipeline_of(service).searched == 0
