"""Fusing the two stages, and the choice of the weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log2
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.collection import Qrels
from secondstage.measures import evaluate, mean
from secondstage.run import Ranking, Run, rank
from secondstage.serve.fuse import MEASURE, WEIGHTS, choose_weight, fuse, reordered, standardise

Lists = Mapping[str, Mapping[str, float]]


def run(name: str, lists: Lists) -> Run:
    return Run(name, {q: rank(list(found), list(found.values()), ["bm25"] * len(found)) for q, found in lists.items()})


def two(first: Lists, second: Lists) -> tuple[Run, Run]:
    """A first stage, and the same candidates with the scores of a reranker."""
    before = run("first_stage", first)
    return before, before.rescored("reranked", [second[query_id][doc_id] for query_id, doc_id in before.pairs()])


def random_runs(seed: int = 1, queries: int = 4, size: int = 9) -> tuple[Run, Run]:
    rng = np.random.default_rng(seed)
    lists = [
        {f"q{q}": {f"d{d}": float(x) for d, x in enumerate(rng.normal(size=size + q))} for q in range(queries)}
        for _ in range(2)
    ]
    return two(lists[0], lists[1])


def orders(found: Run) -> dict[str, tuple[str, ...]]:
    return {query_id: ranking.doc_ids for query_id, ranking in found.items()}


def test_a_weight_of_0_is_the_first_stage_and_of_1_the_reranker() -> None:
    first, reranked = random_runs()
    assert orders(first) != orders(reranked)
    assert orders(fuse(first, reranked, 0.0)) == orders(first)
    assert orders(fuse(first, reranked, 1.0)) == orders(reranked)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("value", [0.0, -7.3, 1e6])
def test_a_constant_reranker_is_the_first_stage_at_every_weight(weight: float, value: float) -> None:
    first, _ = random_runs(size=60)
    constant = first.rescored("reranked", [value] * sum(1 for _ in first.pairs()))
    assert orders(fuse(first, constant, weight)) == orders(first)


def test_the_fused_score_is_the_weighted_sum_of_standard_scores() -> None:
    first, reranked = two({"q": {"a": 5, "b": 3, "c": 1}}, {"q": {"a": 0, "b": 0, "c": 6}})
    unit, high = 2 / (8 / 3) ** 0.5, 4 / 8**0.5
    expected = {"a": 0.75 * unit - 0.25 * high / 2, "b": -0.25 * high / 2, "c": -0.75 * unit + 0.25 * high}
    fused = fuse(first, reranked, 0.25)
    assert fused.name == "pipeline"
    assert dict(zip(fused["q"].doc_ids, fused["q"].scores.tolist(), strict=True)) == pytest.approx(expected, abs=1e-6)
    assert fused["q"].doc_ids == ("a", "b", "c")


def test_candidates_and_who_found_them_stay() -> None:
    first, reranked = random_runs()
    named = Run("first_stage", {q: x._replace(retrievers=tuple(f"r{d}" for d in x.doc_ids)) for q, x in first.items()})
    fused = fuse(named, reranked, 0.6)
    assert list(fused) == list(first)
    for query_id, ranking in fused.items():
        assert sorted(ranking.doc_ids) == sorted(first[query_id].doc_ids)
        assert ranking.retrievers == tuple(f"r{doc_id}" for doc_id in ranking.doc_ids)
        assert (np.diff(ranking.scores) < 0).all()


numbers = st.lists(st.tuples(st.integers(-40, 40), st.integers(-40, 40)), min_size=1, max_size=12)


@given(numbers, st.sampled_from(WEIGHTS), st.sampled_from([0.25, 2.0, 16.0]), st.integers(-64, 64))
def test_the_scale_of_either_stage_does_not_matter(
    scores: Sequence[tuple[int, int]], weight: float, factor: float, shift: int
) -> None:
    def fused(change_first: Callable[[float], float], change_second: Callable[[float], float]) -> dict[str, float]:
        lists: list[Lists] = [
            {"q": {f"d{i}": change(pair[k]) for i, pair in enumerate(scores)}}
            for k, change in ((0, change_first), (1, change_second))
        ]
        found = fuse(*two(*lists), weight)["q"]
        return dict(zip(found.doc_ids, found.scores.tolist(), strict=True))

    def same(x: float) -> float:
        return x

    def changed(x: float) -> float:
        return factor * x + shift

    plain = fused(same, same)
    assert fused(changed, same) == pytest.approx(plain, abs=1e-4)
    assert fused(same, changed) == pytest.approx(plain, abs=1e-4)


@pytest.mark.parametrize(
    "scores", [[], [3.0], [1.0, 1.0], [7.0, np.nextafter(np.float32(7), np.float32(0))], [0.0, -1e-45]]
)
def test_scores_that_say_nothing_are_zeros(scores: Sequence[float]) -> None:
    assert standardise(np.array(scores, np.float32)).tolist() == [0.0] * len(scores)


def test_standard_scores_have_mean_0_and_deviation_1() -> None:
    found = standardise(np.array([4.0, 2.5, -1.0, -30.0], np.float32))
    assert found.mean() == pytest.approx(0)
    assert found.std() == pytest.approx(1)


def test_empty_runs_and_empty_lists_stay_empty() -> None:
    assert len(fuse(Run("first_stage", {}), Run("reranked", {}), 0.5)) == 0
    first, reranked = two({"a": {}, "b": {"d": 1.0}}, {"a": {}, "b": {"d": 3.0}})
    assert orders(fuse(first, reranked, 0.5)) == {"a": (), "b": ("d",)}


@pytest.mark.parametrize("weight", [0.3, 1.0])
@pytest.mark.parametrize("depth", [1, 4, 9, 10])
def test_below_the_depth_the_first_stage_s_order_follows(weight: float, depth: int) -> None:
    first, reranked = random_runs()
    fused = fuse(first, reranked, weight, depth)
    heads = first.top(depth)
    alone = fuse(heads, heads.rescored("reranked", [score_in(reranked, *pair) for pair in heads.pairs()]), weight)
    assert fused.name == "pipeline"
    for query_id, ranking in fused.items():
        assert ranking.doc_ids == alone[query_id].doc_ids + first[query_id].doc_ids[depth:]
        assert ranking.scores[:depth].tolist() == alone[query_id].scores.tolist()
        assert (np.diff(ranking.scores) < 0).all()


def score_in(found: Run, query_id: str, doc_id: str) -> float:
    return float(found[query_id].scores[found[query_id].doc_ids.index(doc_id)])


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_depth_of_the_whole_list_is_no_depth(weight: float) -> None:
    first, reranked = random_runs()
    longest = max(len(ranking.doc_ids) for ranking in first.values())
    whole = fuse(first, reranked, weight)
    for depth in (longest, longest + 1, 10_000):
        deep = fuse(first, reranked, weight, depth)
        assert orders(deep) == orders(whole)
        assert all(deep[q].scores.tolist() == whole[q].scores.tolist() for q in whole)


@given(
    st.lists(st.sampled_from([0.0, 1.0, 1 + 2**-23, 2.0, -3e38, 3e38]), min_size=1, max_size=12),
    st.integers(1, 14),
    st.randoms(),
)
def test_a_weight_of_0_is_the_first_stage_at_any_depth(scores: list[float], depth: int, random: Random) -> None:
    found = {f"d{i}": score for i, score in enumerate(scores)}
    first, reranked = two({"q": found}, {"q": {doc_id: random.random() for doc_id in found}})
    assert orders(fuse(first, reranked, 0.0, depth)) == orders(first)
    constant = first.rescored("reranked", [7.0] * len(found))
    assert orders(fuse(first, constant, 0.7, depth)) == orders(first)


def test_the_reranker_may_have_scored_more_than_the_lists_hold() -> None:
    first, reranked = random_runs()
    short = first.top(5)
    same = short.rescored("reranked", [score_in(reranked, *pair) for pair in short.pairs()])
    assert orders(fuse(short, reranked, 0.4)) == orders(fuse(short, same, 0.4))
    one = fuse(short.only(["q1"]), reranked, 0.4, 3)
    assert list(one) == ["q1"]
    assert one["q1"].doc_ids == fuse(short, same, 0.4, 3)["q1"].doc_ids


@pytest.mark.parametrize("low", [0.0, -1e30, 1e30])
def test_any_scores_reorder_the_head_alone(low: float) -> None:
    """Scores so large that those below do not differ in single precision keep their order all the same."""
    first, _ = random_runs()
    seen = []

    def backwards(query_id: str, head: Ranking) -> npt.NDArray[np.float64]:
        seen.append((query_id, head.doc_ids))
        return low + abs(low) * np.arange(len(head.doc_ids), dtype=np.float64)

    found = reordered(first, backwards, 3, "backwards")
    assert seen == [(query_id, ranking.doc_ids[:3]) for query_id, ranking in first.items()]
    for query_id, ranking in first.items():
        head = ranking.doc_ids[:3][::-1] if low else ranking.doc_ids[:3]
        assert found[query_id].doc_ids == head + ranking.doc_ids[3:]


# Queries of three documents: p is relevant, n is not, and f is far below in both stages.
QRELS: Qrels = {f"q{i}": {"p": 1} for i in range(20)}


GOOD: Lists = {f"q{i}": {"p": 0.05 * 1.4**i, "n": 0.0, "f": -20.0} for i in range(20)}
"""p leads, from by almost nothing to by far."""
BAD: Lists = {f"q{i}": {"p": -1.0, "n": 0.0, "f": -5.0} for i in range(20)}
"""p trails."""


def test_an_adversarial_reranker_gets_no_weight() -> None:
    """Each step towards it costs a query: the first stage is best where it is alone."""
    first, reranked = two(GOOD, BAD)
    choice = choose_weight(first, reranked, QRELS)
    values = list(choice.curve.values())
    assert values[0] == 1 > values[1] > values[2]
    assert values == sorted(values, reverse=True)
    assert (choice.weight, choice.value) == (0.0, 1.0)


def test_an_oracle_over_a_bad_first_stage_gets_all_of_it() -> None:
    first, reranked = two(BAD, GOOD)
    choice = choose_weight(first, reranked, QRELS)
    values = list(choice.curve.values())
    assert values[-1] == 1 > values[-2] > values[-3]
    assert (choice.weight, choice.value) == (1.0, 1.0)


def test_the_curve_is_that_of_the_fused_runs() -> None:
    first, reranked = random_runs(queries=6)
    qrels = {f"q{i}": {"d2": 1, "d5": 2, "missed": 1} for i in range(6)}
    choice = choose_weight(first, reranked, qrels)
    assert tuple(choice.curve) == WEIGHTS
    for weight, value in choice.curve.items():
        assert value == mean(evaluate(fuse(first, reranked, weight), qrels, [MEASURE])[MEASURE])
    assert choice.value == choice.curve[choice.weight]


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_reranker_that_changes_nothing_gets_no_weight(value: float) -> None:
    first, _ = random_runs()
    constant = first.rescored("reranked", [value] * sum(1 for _ in first.pairs()))
    choice = choose_weight(first, constant, {"q0": {"d1": 1}, "q1": {"d2": 1}})
    assert (choice.weight, choice.gain, choice.error) == (0.0, 0.0, 0.0)


def copies(number: int, lists: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]]) -> tuple[Lists, Lists]:
    """The lists of both stages, each that often."""
    firsts, seconds = ({f"{q}-{i}": both[k] for q, both in lists.items() for i in range(number)} for k in range(2))
    return firsts, seconds


def relevant(lists: Lists) -> Qrels:
    return {query_id: {"p": 1} for query_id in lists}


# p is second in the first stage and first in the reranked list, or second in both.
HELPED = {"n": 1.0, "p": 0.0, "f": -1.0}, {"p": 1.0, "n": 0.0, "f": -1.0}
LEFT = {"n": 1.0, "p": 0.0, "f": -1.0}, {"p": 0.0, "n": 1.0, "f": -1.0}
STEP = 1 - 1 / log2(3)


def test_of_equal_weights_the_middle_is_chosen() -> None:
    """The first stage has no opinion: any weight but 0 gives the reranker's order."""
    firsts, seconds = copies(4, {"q": ({"n": 1.0, "p": 1.0, "f": 1.0}, HELPED[1])})
    choice = choose_weight(*two(firsts, seconds), relevant(firsts))
    assert [value == 1 for value in choice.curve.values()] == [False] + [True] * 20
    assert choice.weight == 0.5


def test_a_peak_that_stands_alone_is_not_chosen() -> None:
    """In `peak`, p leads only where a and b are about even; in `plateau`, it leads from some weight on."""
    peak = {"a": 2.0, "p": 1.05, "b": 0.0}, {"a": 0.0, "p": 1.05, "b": 2.0}
    plateau = {"a": 1.0, "b": 1.0, "p": -0.5, "f": -2.0}, {"a": 0.6, "b": 0.6, "p": 1.0, "f": -3.0}
    firsts, seconds = copies(5, {"q1": peak, "q2": peak, "q3": plateau})
    choice = choose_weight(*two(firsts, seconds), relevant(firsts))
    curve = choice.curve
    best = max(curve, key=lambda weight: curve[weight])
    around = (WEIGHTS[WEIGHTS.index(best) - 1], WEIGHTS[WEIGHTS.index(best) + 1])
    assert best == 0.5
    assert curve[best] > max(value for weight, value in curve.items() if weight != best)
    assert max(curve[weight] for weight in around) < curve[1.0] < curve[best]
    assert choice.weight not in (0.0, best)
    assert choice.value == curve[1.0]


def test_of_a_plateau_an_inner_point_is_chosen() -> None:
    """At its edge a step to the side costs: there the neighbours count against it."""
    firsts, seconds = copies(4, {"q": HELPED})
    choice = choose_weight(*two(firsts, seconds), relevant(firsts))
    good = [weight for weight, value in choice.curve.items() if value == 1]
    assert good == [weight for weight in WEIGHTS if weight > 0.5]
    assert choice.weight == good[1]


@pytest.mark.parametrize(("helped", "left"), [(4, 0), (2, 1), (2, 7), (3, 40), (5, 5)])
def test_a_gain_beyond_its_standard_error_counts(helped: int, left: int) -> None:
    count, share = helped + left, helped / (helped + left)
    firsts = {f"q{i}": HELPED[0] for i in range(count)}
    seconds = {f"q{i}": (HELPED if i < helped else LEFT)[1] for i in range(count)}
    choice = choose_weight(*two(firsts, seconds), relevant(firsts))
    assert choice.gain == pytest.approx(share * STEP)
    assert choice.error == pytest.approx(STEP * (share * (1 - share) / (count - 1)) ** 0.5)
    assert choice.weight > 0.5
    assert choice.value == pytest.approx(1 - (1 - share) * STEP)


def test_the_weight_of_a_head_is_that_of_lists_cut_there() -> None:
    first, reranked = random_runs(seed=3, queries=6, size=30)
    qrels: Qrels = {query_id: {ranking.doc_ids[0]: 1, "d7": 2} for query_id, ranking in reranked.items()}
    short = first.top(10)
    same = short.rescored("reranked", [score_in(reranked, *pair) for pair in short.pairs()])
    # nDCG@10 sees no more than ten, so what follows the head does not matter.
    assert choose_weight(first, reranked, qrels, 10) == choose_weight(short, same, qrels)
    assert choose_weight(first, reranked, qrels, 10).curve != choose_weight(first, reranked, qrels).curve


def test_one_query_shows_nothing() -> None:
    choice = choose_weight(*two({"q": HELPED[0]}, {"q": HELPED[1]}), {"q": {"p": 1}})
    assert choice.gain == choice.error == pytest.approx(STEP)
    assert (choice.weight, choice.value) == (0.0, 1 - STEP)


def test_one_query_of_many_shows_nothing() -> None:
    for count in range(2, 30):
        firsts = {f"q{i}": HELPED[0] for i in range(count)}
        seconds = {f"q{i}": (HELPED if i == 0 else LEFT)[1] for i in range(count)}
        choice = choose_weight(*two(firsts, seconds), relevant(firsts))
        assert choice.gain == pytest.approx(choice.error)
        assert choice.weight == 0.0
