"""What is chosen on dev: depth, weight, calibration and answerability, from runs whose right choice is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pytest

from secondstage.answerability import fit
from secondstage.collection import Qrels
from secondstage.config import ServeConfig
from secondstage.measures import evaluate, mean
from secondstage.run import Run, rank
from secondstage.serve.choices import (
    DEPTH_WITHOUT_DEV,
    WEIGHT_WITHOUT_DEV,
    Choices,
    both_scores,
    choose_on_dev,
    depths_to_time,
    has_relevant,
    label,
    reranked_head,
    without_dev,
)
from secondstage.serve.depth import Timing, ideal_order
from secondstage.serve.fuse import MEASURE, WEIGHTS, choose_weight, fuse

from .hidden import without_answers

QUERIES, SIZE = 20, 40
CONFIG = ServeConfig(max_depth=SIZE)
DEPTHS = (5, 10, 20, 30, 40)
TIMINGS = {depth: Timing(depth / 2, float(depth)) for depth in DEPTHS}


def lists(seed: int = 2) -> tuple[Run, Qrels]:
    """A first stage that knows nothing, and two relevant documents a query, anywhere among its candidates."""
    rng = np.random.default_rng(seed)
    rankings, qrels = {}, {}
    for i in range(QUERIES):
        doc_ids = [f"d{d}" for d in rng.permutation(SIZE)]
        rankings[f"q{i}"] = rank(doc_ids, -np.arange(SIZE), ["bm25"] * SIZE)
        qrels[f"q{i}"] = {doc_ids[place]: 1 for place in rng.choice(SIZE, 2, replace=False)} | {doc_ids[7]: 0}
    return Run("first_stage", rankings), qrels


def noise(first: Run, seed: int = 5) -> Run:
    return first.rescored("reranked", np.random.default_rng(seed).normal(size=QUERIES * SIZE))


def perfect(first: Run, qrels: Qrels) -> Run:
    """Relevant documents around 6, others around -6."""
    near = np.random.default_rng(6).uniform(-1, 1, QUERIES * SIZE)
    signs = [1 if qrels[query_id].get(doc_id, 0) > 0 else -1 for query_id, doc_id in first.pairs()]
    return first.rescored("reranked", 6 * np.array(signs) + near)


def chosen_on_dev(
    first: Run,
    reranked: Run,
    qrels: Qrels,
    config: ServeConfig = CONFIG,
    timings: Mapping[int, Timing] = MappingProxyType({}),
) -> Choices:
    barren = without_answers(first, reranked, qrels)
    return choose_on_dev(first, reranked, qrels, config, timings, seed=13, barren=barren)


def dev_value(run: Run, qrels: Qrels) -> float:
    return mean(evaluate(run, qrels, [MEASURE])[MEASURE])


@pytest.mark.parametrize("seed", range(3))
def test_noise_after_a_good_first_stage_gets_no_weight(seed: int) -> None:
    unordered, qrels = lists()
    first = ideal_order(unordered, qrels).named("first_stage")
    chosen = chosen_on_dev(first, noise(first, seed), qrels)
    assert chosen.weight == 0
    # Where no depth is better, the shallowest page is enough.
    assert chosen.depth == 10
    fusion = chosen.details["fusion"]
    assert fusion["gain"] <= fusion["standard_error"]
    assert set(chosen.details["depth"]["weights"]) == {0.0}


@pytest.mark.parametrize("few", [QUERIES, QUERIES + 1])
def test_few_dev_queries_that_see_no_gain_are_told(
    few: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("secondstage.serve.choices.FEW", few)
    unordered, qrels = lists()
    first = ideal_order(unordered, qrels).named("first_stage")
    chosen_on_dev(first, noise(first), qrels)
    said = capsys.readouterr().err
    assert "keeps the first stage's order (serve.weight sets another" in said
    assert ("another: 20 dev queries show little, and the gate judges it on test, once)" in said) == (few > QUERIES)


def test_a_perfect_reranker_gets_the_depth_and_the_weight_that_make_it_so() -> None:
    first, qrels = lists()
    reranked = perfect(first, qrels)
    chosen = chosen_on_dev(first, reranked, qrels)
    assert (chosen.depth, chosen.weight >= 0.5) == (SIZE, True)
    assert dev_value(fuse(first, reranked, chosen.weight, chosen.depth), qrels) > 0.99
    assert dev_value(first, qrels) < 0.3
    assert chosen.calibration is not None
    scores, relevant, queries = label(reranked, qrels)
    probabilities = chosen.calibration.of_lists(scores, queries)
    assert probabilities[relevant].min() > 0.9
    assert probabilities[~relevant].max() < 0.1


@pytest.mark.parametrize("depth", [15, SIZE])
def test_the_confidence_tells_lists_with_a_relevant_document_from_those_without(depth: int) -> None:
    """Fitted to both stages, at the chosen depth."""
    first, qrels = lists()
    reranked = perfect(first, qrels)
    model = chosen_on_dev(first, reranked, qrels, ServeConfig(depth=depth)).answerability
    assert model is not None
    found = has_relevant(first, qrels, depth)
    assert 0 < len(found) < QUERIES if depth < SIZE else len(found) == QUERIES
    answerable = [both_scores(first, reranked, depth)[query_id] for query_id in first if query_id in found]
    unanswerable = list(both_scores(*without_answers(first, reranked, qrels), depth).values())
    assert model == fit(answerable, unanswerable)
    assert len(model.weights) == 6
    assert all(map(model.answerable, answerable))
    assert not any(map(model.answerable, unanswerable))


def test_scores_of_both_stages_are_of_the_same_documents() -> None:
    first = Run("first_stage", {"q": rank("abc", [3, 2, 1], "xxx"), "none": rank("", [], "")})
    reranked = first.rescored("reranked", [0.1, 0.9, 0.5])
    assert both_scores(first, reranked)["q"] == pytest.approx(np.array([[0.1, 0.9, 0.5], [3, 2, 1]]))
    assert both_scores(first, reranked, 2)["q"] == pytest.approx(np.array([[0.1, 0.9], [3, 2]]))
    assert both_scores(first, reranked)["none"].shape == (2, 0)
    assert has_relevant(first, {"q": {"c": 1, "a": 0}}) == {"q"}
    assert has_relevant(first, {"q": {"c": 1, "a": 0}}, 2) == set()


def test_everything_is_chosen_at_the_chosen_depth() -> None:
    first, qrels = lists()
    reranked = perfect(first, qrels)
    chosen = chosen_on_dev(first, reranked, qrels, ServeConfig(depth=15))
    head = reranked_head(first, reranked, 15)
    short = {query_id: ranking.doc_ids for query_id, ranking in first.top(15).items()}
    assert {query_id: tuple(sorted(ranking.doc_ids)) for query_id, ranking in head.items()} == {
        query_id: tuple(sorted(doc_ids)) for query_id, doc_ids in short.items()
    }
    barren = without_answers(first, reranked, qrels)
    barren = barren._replace(first_stage=barren.first_stage.top(15))
    alone = choose_on_dev(first.top(15), head, qrels, ServeConfig(depth=15), {}, seed=13, barren=barren)
    assert (alone.calibration, alone.answerability, alone.weight) == (*chosen[2:4], chosen.weight)
    assert chosen.weight == choose_weight(first, reranked, qrels, 15).weight


def test_what_the_configuration_fixes_is_kept() -> None:
    first, qrels = lists()
    chosen = chosen_on_dev(first, perfect(first, qrels), qrels, ServeConfig(depth=7, weight=0.15))
    assert (chosen.depth, chosen.weight) == (7, 0.15)
    assert chosen.details["fusion"] == {"weight": 0.15, "chosen_on": "the configuration"}
    assert (chosen.details["depth"]["depths"], chosen.details["depth"]["weights"]) == ([7], [0.15])
    assert chosen.calibration is not None
    fixed_weight = chosen_on_dev(first, noise(first), qrels, CONFIG.model_copy(update={"weight": 0.9}))
    assert fixed_weight.weight == 0.9
    assert fixed_weight.details["depth"]["weights"] == [0.9] * len(DEPTHS)


def test_a_latency_budget_makes_it_shallower() -> None:
    first, qrels = lists()
    reranked = perfect(first, qrels)

    def depth(budget: float | None, timings: Mapping[int, Timing] = TIMINGS) -> int:
        config = CONFIG.model_copy(update={"latency_ms": budget, "weight": 1.0})
        chosen = chosen_on_dev(first, reranked, qrels, config, timings)
        assert chosen.details["depth"]["recommended"] == chosen.depth
        assert chosen.details["depth"]["p95_ms"] == ([5.0, 10.0, 20.0, 30.0, 40.0] if timings else None)
        return chosen.depth

    assert [depth(budget) for budget in (None, 40.0, 39.9, 25.0, 10.0, 1.0)] == [40, 40, 30, 20, 10, 10]
    assert depth(None, {}) == 40


def test_the_depths_that_are_timed_are_those_that_may_be_chosen() -> None:
    assert depths_to_time(CONFIG) == ()
    assert depths_to_time(ServeConfig(depth=12)) == ()
    assert depths_to_time(CONFIG.model_copy(update={"latency_ms": 5.0})) == DEPTHS
    assert depths_to_time(ServeConfig(depth=12, latency_ms=5.0)) == (12,)


def test_details_say_how_it_was_chosen_in_json() -> None:
    first, qrels = lists()
    details = chosen_on_dev(first, perfect(first, qrels), qrels).details
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    fusion = details["fusion"]
    assert (fusion["chosen_on"], fusion["queries"]) == ("dev", QUERIES)
    assert list(fusion["curve"]) == [f"{weight:.2f}" for weight in WEIGHTS]
    assert details["depth"]["oracle"][-1] == dev_value(ideal_order(first, qrels), qrels)


def test_the_same_dev_lists_give_the_same_choices() -> None:
    first, qrels = lists()
    reranked = perfect(first, qrels)
    one, other = (chosen_on_dev(first, reranked, qrels) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("relevance", [0, 1])
def test_nothing_is_calibrated_where_all_candidates_are_alike(relevance: int) -> None:
    """None of them is relevant, as the first stage missed all, or all of them are."""
    first = lists()[0]
    qrels = {query_id: dict.fromkeys(ranking.doc_ids, relevance) | {"missed": 1} for query_id, ranking in first.items()}
    chosen = chosen_on_dev(first, noise(first), qrels)
    assert chosen.calibration is None
    assert chosen.answerability is None
    assert chosen.weight == 0


def test_one_dev_query_chooses_something_and_no_weight() -> None:
    first, qrels = lists()
    reranked = perfect(first, qrels)
    one = next(iter(qrels))
    chosen = chosen_on_dev(first.only([one]), reranked.only([one]), {one: qrels[one]}, ServeConfig(depth=SIZE))
    # What one query gains is no more than its own error.
    assert chosen.weight == 0
    assert chosen.calibration is not None
    assert chosen.calibration.method == "platt"
    assert chosen.answerability is not None
    assert json.loads(json.dumps(chosen.details, allow_nan=False)) == chosen.details


def test_without_dev_the_usual_is_used() -> None:
    chosen = without_dev(ServeConfig())
    assert chosen[:4] == (DEPTH_WITHOUT_DEV, WEIGHT_WITHOUT_DEV, None, None) == (50, 0.5, None, None)
    assert chosen.details["fusion"] == {"weight": 0.5, "chosen_on": "nothing: there is no dev split"}
    assert chosen.details["depth"] is None
    assert without_dev(ServeConfig(max_depth=30)).depth == 30
    fixed = without_dev(ServeConfig(depth=80, weight=0.0))
    assert (fixed.depth, fixed.weight) == (80, 0.0)
    assert fixed.details["fusion"]["chosen_on"] == "the configuration"


def test_labels_follow_the_run_and_unjudged_is_not_relevant() -> None:
    run = Run("reranked", {"a": rank("xyz", [3, 1, 2], "rrr"), "b": rank("x", [0.5], "r"), "c": rank("", [], "")})
    found = label(run, {"a": {"z": 2, "x": 0, "y": -1}, "other": {"x": 1}})
    assert found.scores.tolist() == [3, 2, 1, 0.5]
    assert found.relevant.tolist() == [False, True, False, False]
    assert found.queries == ["a", "a", "a", "b"]
    nothing = label(Run("reranked", {}), {})
    assert [len(part) for part in nothing] == [0, 0, 0]
