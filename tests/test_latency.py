"""Timing searches, against a clock that only the searches move."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from secondstage.collection import Documents
from secondstage.firststage import Hits
from secondstage.firststage.given import Given
from secondstage.run import Scores
from secondstage.scorecache import CachedScorer
from secondstage.serve import latency
from secondstage.serve.depth import Timing
from secondstage.serve.latency import time_first_stage, time_searches
from secondstage.serve.pipeline import Pipeline

QUERIES = [f"query {i}" for i in range(21)]


class Clock:
    """Stands still but for `advance`."""

    def __init__(self) -> None:
        self.now = 1e6

    def perf_counter(self) -> float:
        return self.now

    def advance(self, milliseconds: float) -> None:
        self.now += milliseconds / 1000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


class Model:
    """Counts how often it began to remember documents."""

    remembered = 0

    def remember_documents(self) -> None:
        self.remembered += 1


class Fake:
    """A pipeline whose search takes depth + query number milliseconds, and the very first one a second."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.reranker = Model()
        self.scorer: Any = "looks up"
        self.depth = 30
        self.depths = (30,)
        self.first_stage = self
        self.calls: list[tuple[str, int]] = []

    def with_scorer(self, scorer: Any) -> Fake:
        other = copy(self)
        other.scorer = scorer
        return other

    def rank(self, queries: Mapping[str, str], *, depth: int) -> None:
        assert isinstance(self.scorer, Model)
        # A model of its own for each search, which keeps no tokens of another.
        assert self.scorer is not self.reranker
        assert self.scorer.remembered == self.reranker.remembered + 1
        self.scorer.remembered += 1
        ((_, text),) = queries.items()
        self.clock.advance(depth + int(text.split()[1]) if self.calls else 1000)
        self.calls.append((text, depth))

    def search(self, queries: Sequence[str], depth: int) -> None:
        (text,) = queries
        self.clock.advance(2 * int(text.split()[1]))
        self.calls.append((text, depth))


def as_pipeline(fake: Fake) -> Pipeline:
    return cast(Pipeline, fake)


def test_percentiles_of_each_depth_without_the_first_call(clock: Clock) -> None:
    found = time_searches(as_pipeline(Fake(clock)), QUERIES, (10, 50))
    # 21 searches at depth d take d, d + 1, …, d + 20: half of them no more than d + 10, 95 % no more than d + 19.
    assert list(found) == [10, 50]
    assert found[10] == pytest.approx(Timing(20.0, 29.0), abs=1e-5)
    assert found[50] == pytest.approx(Timing(60.0, 69.0), abs=1e-5)


def test_the_depths_take_turns_after_one_call_to_warm_up(clock: Clock) -> None:
    fake = Fake(clock)
    time_searches(as_pipeline(fake), QUERIES[:3], (20, 5))
    assert fake.calls[0] == (QUERIES[0], 20)
    assert fake.calls[1:] == [(query, depth) for query in QUERIES[:3] for depth in (20, 5)]


def test_one_query_is_every_percentile(clock: Clock) -> None:
    assert time_searches(as_pipeline(Fake(clock)), QUERIES[4:5], [8])[8] == pytest.approx(Timing(12.0, 12.0), abs=1e-5)


def test_queries_that_a_run_does_not_answer_are_not_timed(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """A search that finds nothing at once would pull the percentiles down, and say so every time."""
    run = Given({text: Hits(np.array([0]), np.array([1.0], np.float32), ("lucene",)) for text in QUERIES[10:]})
    fake: Any = Fake(clock)
    fake.first_stage = run
    time_searches(as_pipeline(fake), QUERIES, (10, 50))
    assert {text for text, _ in fake.calls} == set(QUERIES[10:])
    time_first_stage(as_pipeline(fake), QUERIES)
    assert not capsys.readouterr().err
    fake.calls.clear()
    time_searches(as_pipeline(fake), QUERIES[:10], [10])  # none: one tells how long that takes
    assert {text for text, _ in fake.calls} == {QUERIES[0]}


def test_the_first_stage_alone(clock: Clock) -> None:
    fake = Fake(clock)
    assert time_first_stage(as_pipeline(fake), QUERIES) == pytest.approx(Timing(20.0, 38.0), abs=1e-5)
    # As many candidates as the pipeline reranks.
    assert fake.calls == [(query, 30) for query in QUERIES]


class FirstDocuments:
    """Finds the first documents of the corpus, in ten milliseconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        self.clock.advance(10)
        return [Hits(np.arange(depth), -np.arange(depth, dtype=np.float32), ("fake",) * depth) for _ in queries]


class Slow:
    """A scorer that takes a millisecond a pair."""

    def remember_documents(self) -> None:
        """It reads no tokens."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.scored: list[int] = []

    @property
    def pairs(self) -> int:
        """Those of its copies, too."""
        return sum(self.scored)

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        self.scored.append(len(pairs))
        self.clock.advance(len(pairs))
        return np.zeros(len(pairs), np.float32)


def test_every_score_is_computed_though_all_are_kept(
    clock: Clock, as_documents: Callable[[Sequence[str]], Documents], tmp_path: Path
) -> None:
    slow: Any = Slow(clock)
    first_stage: Any = FirstDocuments(clock)
    documents = as_documents([f"text {i}" for i in range(8)])
    kept = CachedScorer(slow, tmp_path / "kept.scores")
    pipeline = Pipeline(first_stage, slow, documents, depth=8, weight=0.5).with_scorer(kept)
    pipeline.rank({query: query for query in QUERIES})
    assert slow.pairs == 8 * len(QUERIES)
    before, content = clock.now, kept.path.read_bytes()
    pipeline.rank({"q": QUERIES[0]})
    assert clock.now - before == pytest.approx(0.010)  # nothing but retrieval: the cache knows every pair

    found = time_searches(pipeline, QUERIES, (4, 8))
    assert found[4] == pytest.approx(Timing(14.0, 14.0), abs=1e-5)
    assert found[8] == pytest.approx(Timing(18.0, 18.0), abs=1e-5)
    assert slow.pairs == 8 * len(QUERIES) + 4 + (4 + 8) * len(QUERIES)
    assert kept.path.read_bytes() == content
    # The pipeline itself still looks scores up.
    assert pipeline.scorer is kept
