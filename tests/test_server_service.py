"""The core of the server: a search keeps its deadline in every stage, and there are never too many."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, cast

import pytest

from secondstage.serve.options import SearchOptions
from secondstage.serve.server.errors import ExpiredError, OverloadedError
from secondstage.serve.server.service import Service
from secondstage.serve.server.signals import Judged

from .serving import make_service


def pipeline_of(service: Service) -> Any:
    return cast(Any, service.pipeline)


def close(service: Service) -> None:
    for batcher in service.batchers:
        assert batcher.tokens == 0
    service.close()


def test_a_slow_first_stage_does_not_outlive_the_deadline() -> None:
    service = make_service()
    pipeline_of(service).first_stage_seconds = 0.3

    async def main() -> float:
        start = time.monotonic()
        asked = [service.search("bread", SearchOptions(), deadline=start + 0.1) for _ in range(5)]
        refusals = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(refusal) for refusal in refusals] == [ExpiredError] * 5
        taken = time.monotonic() - start
        await service.drain()
        return taken

    assert asyncio.run(main()) < 0.28
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
    disk = threading.Event()

    def keep(judged: Judged) -> None:
        disk.wait()
        kept.append(judged)

    service = make_service(keep=keep)
    judged = Judged(None, "bread", "a", 1, "judgement")

    async def main() -> None:
        late = time.monotonic() + 0.5
        asked = [service.judge(judged._replace(relevance=i), deadline=late) for i in range(5)]
        refusals = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(refusal) for refusal in refusals] == [ExpiredError] * 3 + [OverloadedError] * 2
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
