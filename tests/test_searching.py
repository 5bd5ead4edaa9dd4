"""What a search may be told, and what its trace tells."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from secondstage.answerability import Answerability
from secondstage.calibration import Calibration, sigmoid
from secondstage.config import Bm25Config
from secondstage.errors import UserError
from secondstage.firststage.bm25 import Bm25
from secondstage.firststage.hybrid import Hybrid
from secondstage.run import Scores
from secondstage.serve import Ask, Pipeline, SearchOptions, Verdict
from secondstage.serve.cascade import Stage
from secondstage.serve.fields import Fields

QUERY = "key of the piano"
QUERIES = [QUERY, "water of the river", "a king and his queen", "unheard of"]


@pytest.fixture(scope="module")
def loaded(run_folder: Path) -> Pipeline:
    return Pipeline.load(run_folder / "bundle")


@pytest.fixture
def pipeline(loaded: Pipeline) -> Pipeline:
    return Pipeline(loaded.first_stage, loaded.reranker, loaded.documents, depth=20, weight=0.5)


class Slow:
    """Scores by length, and takes 10 ms and 2 ms a pair of a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pairs: list[int] = []

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        self.now += 0.010 + 0.002 * len(pairs)
        self.pairs.append(len(pairs))
        return np.array([-len(text) for _, text in pairs], np.float32)


def slow(pipeline: Pipeline) -> tuple[Pipeline, Slow]:
    scorer = Slow()
    other = pipeline.with_scorer(scorer)
    other.clock = lambda: scorer.now
    return other, scorer


# --- the generator and its trace


def test_a_search_asks_for_scores_and_tells_what_it_did(pipeline: Pipeline) -> None:
    runs = pipeline.rank({"q": QUERY})
    asking = pipeline.asking(QUERY, SearchOptions(top_n=3))
    ask = next(asking)
    first = runs.first_stage["q"].doc_ids
    assert ask == Ask(0, [(QUERY, content) for content in pipeline.documents.contents(first)])
    logits = pipeline.reranker.score(ask.pairs)
    with pytest.raises(StopIteration) as stopped:
        asking.send(logits)
    answer = stopped.value.value
    assert answer.results == pipeline.answer(QUERY, 3).results
    trace = answer.trace
    assert (trace.first, trace.final) == (list(first), list(runs.pipeline["q"].doc_ids))
    assert (trace.depth, trace.reranked, trace.fell_back) == (20, trace.first, False)
    assert trace.scores == pytest.approx(logits.tolist())
    assert set(trace.milliseconds) == {"first_stage", "rerank", "total"}
    assert trace.milliseconds["total"] >= trace.milliseconds["first_stage"] + trace.milliseconds["rerank"] > 0


def test_the_scores_are_those_that_were_sent(pipeline: Pipeline) -> None:
    asking = pipeline.asking(QUERY, SearchOptions(top_n=20))
    ask = next(asking)
    with pytest.raises(StopIteration) as stopped:
        asking.send(np.arange(len(ask.pairs), dtype=np.float32))
    answer = stopped.value.value
    assert answer.trace.scores == list(range(20))
    by_id = {result.doc_id: result.reranker_score for result in answer.results}
    assert [by_id[doc_id] for doc_id in answer.trace.first] == list(range(20))


def test_any_thread_may_drive_it(pipeline: Pipeline) -> None:
    asking, found = pipeline.asking(QUERY), []
    thread = threading.Thread(target=lambda: found.append(next(asking)))
    thread.start()
    thread.join()
    with pytest.raises(StopIteration) as stopped:
        asking.send(pipeline.reranker.score(found[0].pairs))
    assert stopped.value.value.results == pipeline.search(QUERY)


def test_many_are_answered_as_one_by_one(pipeline: Pipeline, scored: list[int]) -> None:
    together = pipeline.search_many(QUERIES, SearchOptions(top_n=7))
    assert scored == [20 * len(QUERIES)]
    for query, answer in zip(QUERIES, together, strict=True):
        alone = pipeline.answer(query, 7)
        assert [result.doc_id for result in answer.results] == [result.doc_id for result in alone.results]
        assert answer.trace.scores == pytest.approx(alone.trace.scores, abs=1e-4)
    assert pipeline.search_many([]) == []


def test_the_time_of_many_together_is_no_pace_of_one(pipeline: Pipeline) -> None:
    pace = pipeline.pace(measured=True)
    assert pace is not None
    before = list(pace.loads)
    pipeline.search_many(QUERIES)
    assert pace.loads == before
    pipeline.search(QUERY)
    assert pace.loads != before


def test_no_search_is_deeper_than_the_hybrid_fuses(pipeline: Pipeline) -> None:
    """A longer list of each retriever has other means and deviations: its scores were never weighed."""
    parts = pipeline.first_stage.parts()
    hybrid = Hybrid(parts, "zscore", dict.fromkeys(parts, 1 / len(parts)), 12)
    fused = Pipeline(hybrid, pipeline.reranker, pipeline.documents, depth=5, weight=0.5)
    assert len(fused.answer(QUERY, options=SearchOptions(depth=12)).trace.reranked) == 12
    with pytest.raises(UserError, match="depth is 13, but the hybrid was made to fuse 12 documents of each retriever"):
        fused.search(QUERY, options=SearchOptions(depth=13))
    alone = Pipeline(parts["bm25"], pipeline.reranker, pipeline.documents, depth=5, weight=0.5)
    assert alone.deepest is None


# --- settings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (SearchOptions(top_n=0), "top_n is 0, must be at least 1"),
        (SearchOptions(top_n=True), "top_n is True, must be a whole number"),
        (SearchOptions(top_n=2.5), "top_n is 2.5, must be a whole number"),  # type: ignore[arg-type]
        (SearchOptions(top_n=None), "top_n is None, must be a whole number"),  # type: ignore[arg-type]
        (SearchOptions(depth=0), "depth is 0, must be at least 1"),
        (SearchOptions(pack_tokens=-1), "pack_tokens is -1, must be at least 1"),
        (SearchOptions(min_score=1.5), "min_score is 1.5, must be a number from 0 to 1"),
        (SearchOptions(min_score=float("nan")), "min_score is nan"),
        (SearchOptions(latency_ms=0), "latency_ms is 0, must be a number of milliseconds above 0"),
        (SearchOptions(latency_ms="5"), "latency_ms is '5'"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(
    pipeline: Pipeline, options: SearchOptions, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        pipeline.asking(QUERY, options)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (None, "the query must be a text, not None"),
        (["water"], r"the query must be a text, not \['water'\]"),
        ("  ", "the query is empty"),
        ("half \ud83d", "half a surrogate pair"),
    ],
)
def test_what_is_no_query_is_refused_at_once(pipeline: Pipeline, query: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        pipeline.asking(query)
    with pytest.raises(UserError, match=words):
        pipeline.search_many([QUERY, query])


def test_a_smaller_depth_leaves_the_rest_in_the_order_of_the_first_stage(pipeline: Pipeline, scored: list[int]) -> None:
    answer = pipeline.answer(QUERY, options=SearchOptions(top_n=20, depth=6))
    assert scored == [6]
    whole = pipeline.rank({"q": QUERY})
    shallow = pipeline.rank({"q": QUERY}, depth=6)
    first = whole.first_stage["q"].doc_ids
    assert answer.trace.final == [*shallow.pipeline["q"].doc_ids, *first[6:]]
    assert (answer.trace.depth, answer.trace.reranked) == (6, list(first[:6]))
    assert [result.reranker_score is None for result in answer.results] == [False] * 6 + [True] * 14
    assert [result.score for result in answer.results] == sorted((r.score for r in answer.results), reverse=True)
    assert len(pipeline.search(QUERY, 40, options=SearchOptions(depth=30))) == 30


@pytest.mark.parametrize("calibration", [None, Calibration("platt", 2.0, -0.5)])
def test_a_least_score(pipeline: Pipeline, calibration: Calibration | None) -> None:
    pipeline.reranker = pipeline.reranker.with_model(pipeline.reranker.model)
    pipeline.reranker.calibration = calibration
    pipeline.scorer = pipeline.reranker
    assert pipeline.min_score_of == ("probability" if calibration else "sigmoid")
    everything = pipeline.search(QUERY, 20)
    values = {
        result.doc_id: sigmoid(result.reranker_score).item() if calibration is None else result.probability
        for result in everything
        if result.reranker_score is not None
    }
    least = sorted(value for value in values.values() if value is not None)[10]
    found = pipeline.search(QUERY, 20, options=SearchOptions(min_score=least))
    expected = [result.doc_id for result in everything if (values[result.doc_id] or 0) >= least]
    assert [result.doc_id for result in found] == expected
    assert len(found) == 10
    assert [result.rank for result in found] == list(range(1, 11))
    # The best that reach it, not those of the best that do.
    assert pipeline.search(QUERY, 3, options=SearchOptions(min_score=least)) == found[:3]
    assert pipeline.search(QUERY, options=SearchOptions(min_score=1.0)) == []
    assert len(pipeline.search(QUERY, 20, options=SearchOptions(min_score=0.0, depth=6))) == 6


def test_documents_by_field(pipeline: Pipeline) -> None:
    class Odd:
        """Every second document is odd."""

        def __len__(self) -> int:
            return 64

        def metadata(self):  # type: ignore[no-untyped-def]
            return iter([json.dumps({"odd": bool(row % 2)}) for row in range(64)])

    pipeline.fields = Fields(Odd())  # type: ignore[arg-type]
    rows = {doc_id: row for row, doc_id in enumerate(pipeline.documents.ids)}
    answer = pipeline.answer(QUERY, 20, options=SearchOptions(where={"odd": True}))
    assert len(answer.results) == answer.trace.depth == 20
    assert {rows[doc_id] % 2 for doc_id in answer.trace.first} == {1}
    assert answer.results == pipeline.answer(QUERY, 20, options=SearchOptions(where={"odd": "true"})).results
    both = pipeline.answer(QUERY, 20, options=SearchOptions(where={"odd": [True, False]}))
    assert both.trace.first == pipeline.answer(QUERY).trace.first
    with pytest.raises(UserError, match="'even', which no document has"):
        pipeline.answer(QUERY, options=SearchOptions(where={"even": True}))


def test_a_context(pipeline: Pipeline) -> None:
    answer = pipeline.answer(QUERY, 5, options=SearchOptions(pack_tokens=20))
    assert answer.context
    assert sum(pipeline.count_tokens(piece.text) for piece in answer.context) <= 20
    assert answer.context[0].doc_id == answer.results[0].doc_id
    assert answer.context[0].text == pipeline.documents.by_id(answer.results[0].doc_id).content
    assert pipeline.answer(QUERY).context is None
    # The tokens of the model, without the special ones.
    assert pipeline.count_tokens("the piano of the river") == 5


# --- the budget of time


def test_a_budget_lowers_the_depth(pipeline: Pipeline) -> None:
    quick, scorer = slow(pipeline)
    quick.prepare()
    answer = quick.answer(QUERY, 20, options=SearchOptions(latency_ms=30.5))
    assert scorer.pairs[-1] == answer.trace.depth == 10
    assert answer.trace.milliseconds == pytest.approx({"first_stage": 0, "rerank": 30, "total": 30})
    assert answer.trace.final[10:] == answer.trace.first[10:]
    assert not answer.trace.fell_back
    before = len(scorer.pairs)
    assert quick.answer(QUERY, options=SearchOptions(latency_ms=1000)).trace.depth == 20
    assert quick.answer(QUERY, options=SearchOptions(latency_ms=1000, depth=7)).trace.depth == 7
    assert len(scorer.pairs) == before + 2  # measured once


def test_the_first_search_with_a_budget_tells_that_it_measured(pipeline: Pipeline) -> None:
    quick, scorer = slow(pipeline)
    trace = quick.answer(QUERY, options=SearchOptions(latency_ms=30.5)).trace
    # 20 pairs to warm up; then three times five and three times 20.
    measuring = 4 * 50 + 3 * 20
    assert trace.depth == 10
    assert trace.milliseconds == pytest.approx(
        {"measuring": measuring, "first_stage": 0, "rerank": 30, "total": measuring + 30}
    )
    assert 1000 * scorer.now == pytest.approx(measuring + 30)


def test_waiting_for_a_turn_is_part_of_the_budget(pipeline: Pipeline) -> None:
    quick, scorer = slow(pipeline)
    quick.prepare()
    asking = quick.asking(QUERY, SearchOptions(latency_ms=30.5))
    scorer.now += 0.010
    ask = next(asking)
    assert len(ask.pairs) == 5
    with pytest.raises(StopIteration) as stopped:
        asking.send(scorer.score(ask.pairs))
    assert stopped.value.value.trace.milliseconds == pytest.approx({"first_stage": 0, "rerank": 20, "total": 30})


def test_a_budget_that_is_too_small_for_any_gives_the_first_stage(pipeline: Pipeline) -> None:
    pipeline.answerability = Answerability((0.1, 0.02, 0.05), 0.5, 1.0)
    quick, scorer = slow(pipeline)
    quick.pace(measured=True)
    before = len(scorer.pairs)
    answer = quick.answer(QUERY, 20, options=SearchOptions(latency_ms=19.9))
    assert len(scorer.pairs) == before
    assert (answer.trace.depth, answer.trace.fell_back, answer.trace.scores) == (0, True, [])
    assert answer.trace.final == answer.trace.first == [result.doc_id for result in answer.results]
    assert {(r.reranker_score, r.probability) for r in answer.results} == {(None, None)}
    assert [result.score for result in answer.results] == [result.first_stage_score for result in answer.results]
    # Nobody looked: that is not known, where a list that was read would be judged.
    assert (answer.confidence, answer.answerable) == (None, True)
    assert quick.answer(QUERY).confidence is not None


def test_what_is_slower_than_measured_is_learnt(pipeline: Pipeline) -> None:
    quick, scorer = slow(pipeline)
    quick.pace(measured=True)
    depths, taken = [], 0.0
    for _ in range(30):
        asking = quick.asking(QUERY, SearchOptions(latency_ms=60))
        ask = next(asking)
        scorer.now += 0.010  # waits in a queue
        with pytest.raises(StopIteration) as stopped:
            asking.send(scorer.score(ask.pairs))
        trace = stopped.value.value.trace
        depths.append(trace.depth)
        taken = trace.milliseconds["total"]
    assert depths[0] == 20
    assert depths[-1] < 20
    assert taken <= 60


def test_where_nothing_is_found_nothing_is_too_slow(pipeline: Pipeline) -> None:
    pipeline.first_stage = Bm25.build(Bm25Config(), pipeline.documents)
    quick, _ = slow(pipeline)
    quick.prepare()
    answer = quick.answer("unheard", options=SearchOptions(latency_ms=0.1, pack_tokens=5))
    assert (answer.results, answer.context, answer.trace.fell_back) == ([], [], False)
    assert quick.answer(QUERY, options=SearchOptions(latency_ms=1000)).trace.depth == 8


def test_a_server_prepares(pipeline: Pipeline) -> None:
    quick, scorer = slow(pipeline)
    assert quick.pace(measured=False) is None
    quick.prepare()
    pace = quick.pace(measured=False)
    assert pace is not None
    assert pace.costs[0] == pytest.approx((10.0, 2.0))
    # Whoever is scored by something else is measured anew.
    assert quick.with_scorer(scorer).pace(measured=False) is None


def test_a_batch_has_no_budget(pipeline: Pipeline) -> None:
    with pytest.raises(UserError, match="latency_ms is the budget of one search"):
        pipeline.search_many([QUERY], SearchOptions(latency_ms=5))


# --- cascades


def test_a_cascade_asks_twice(pipeline: Pipeline) -> None:
    small = pipeline.reranker
    both = Pipeline(pipeline.first_stage, small, pipeline.documents, depth=6, weight=1.0, cascade=[Stage(small, 20)])
    alone = Pipeline(pipeline.first_stage, small, pipeline.documents, depth=20, weight=1.0)
    assert (both.depths, both.scorers) == ((20, 6), (small, small))
    answer = both.answer(QUERY, 20)
    # The same model twice: the second look changes nothing.
    assert answer.trace.final == alone.answer(QUERY, 20).trace.final
    assert answer.trace.depth == 6
    assert set(answer.trace.reranked) == set(answer.trace.final[:6])
    assert answer.trace.reranked == [doc_id for doc_id in answer.trace.first if doc_id in answer.trace.final[:6]]
    assert set(answer.trace.milliseconds) == {"first_stage", "rerank", "rerank_1", "rerank_2", "total"}
    asking = both.asking(QUERY)
    asks = [next(asking)]
    asks.append(asking.send(small.score(asks[0].pairs)))
    assert [(ask.stage, len(ask.pairs)) for ask in asks] == [(0, 20), (1, 6)]
    # A deeper last one needs no shallower first one.
    assert both.depths_for(30) == (30, 30)
    assert both.answer(QUERY, options=SearchOptions(depth=3)).trace.depth == 3
    # Runs are made in the same way.
    assert list(both.rank({"q": QUERY}).pipeline["q"].doc_ids) == answer.trace.final


def test_of_a_refused_bundle_the_first_stage_is_given_and_told(pipeline: Pipeline) -> None:
    pipeline.verdict, pipeline.fallback = Verdict(False, "No."), True
    answer = pipeline.answer(QUERY)
    assert answer.trace.fell_back
    assert answer.trace.final == answer.trace.first
    assert answer.trace.depth == 20
