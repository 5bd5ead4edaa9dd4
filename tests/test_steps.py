"""Steps: every list once an epoch, decided by the seed; micro-batches within memory; chunks with little padding."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.lists import NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.train.examples import Example, Shape
from secondstage.train.steps import WINDOW, Micro, Step, Steps, chunks_of, micro_batches, share


def training_list(query: int, positives: int = 1, negatives: int = 5) -> TrainingList:
    """Document ids are <query>p<i> and <query>n<i>."""
    found = [Candidate(f"{query}p{i}", 1, True, "x", i, 0.0, POSITIVE) for i in range(positives)]
    found += [Candidate(f"{query}n{i}", 0, False, "x", i, 0.0, NEGATIVE) for i in range(negatives)]
    return TrainingList(f"q{query}", tuple(found))


def lengths(pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.int64]:
    """Of pairs, in tokens: from 5 to 44, as the ids have it."""
    return np.array([5 + (37 * int(query_id[1:]) + 11 * int(doc_id[-1])) % 40 for query_id, doc_id in pairs], np.int64)


MANY = [training_list(i, positives=1 + i % 3, negatives=1 + i % 7) for i in range(2 * WINDOW + 40)]


def steps(lists: Sequence[TrainingList], number: int = 0, *, batch_tokens: int = 400, seed: int = 13) -> list[Step]:
    return list(Steps(lists, lengths, Shape(1, 3), batch_tokens=batch_tokens, seed=seed).epoch(number))


def drawn(found: Sequence[Step]) -> list[tuple[str, tuple[str, ...]]]:
    return [(example.query_id, example.doc_ids) for step in found for example in step.examples]


def step_of(*lists: Sequence[int]) -> Step:
    """A step of lists whose pairs have these lengths."""
    examples = [
        Example(
            f"q{i}",
            tuple(f"{i}d{j}" for j in range(len(found))),
            (0.0,) * len(found),
            (True,) * len(found),
            (0.0,) * len(found),
        )
        for i, found in enumerate(lists)
    ]
    return Step(tuple(examples), tuple(map(tuple, lists)))


LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=12)
STEPS = st.lists(LENGTHS, min_size=1, max_size=9).map(lambda lists: step_of(*lists))


def test_every_list_is_there_once_an_epoch_with_the_lengths_of_its_pairs() -> None:
    found = steps(MANY)
    assert Counter(query_id for query_id, _ in drawn(found)) == dict.fromkeys((x.query_id for x in MANY), 1)
    for step in found:
        for example, tokens in zip(step.examples, step.lengths, strict=True):
            assert tokens == tuple(lengths(example.pairs).tolist())


@settings(deadline=None, max_examples=30)
@given(st.integers(0, len(MANY) + 9), st.integers(64, 2000), st.integers(0, 3))
def test_the_first_lists_of_an_epoch_may_be_shorter(short: int, batch_tokens: int, number: int) -> None:
    """The same lists in the same order; those steps that are over before the change are as if it never came."""

    def shorter(pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.int64]:
        return np.minimum(lengths(pairs), 20)

    made = Steps(MANY, lengths, Shape(1, 3), batch_tokens=batch_tokens, seed=13, short_lengths=shorter)
    found, all_short = list(made.epoch(number, short)), list(made.epoch(number, None))
    assert drawn(found) == drawn(all_short) == drawn(list(made.epoch(number)))
    first = [step for step in found if step.short]
    assert sum(len(step.examples) for step in first) == min(short, len(MANY))
    assert found[: len(first)] == first
    assert first[:-1] == all_short[: len(first) - 1] if first else not short
    for step in found:
        measured = shorter if step.short else lengths
        for example, tokens in zip(step.examples, step.lengths, strict=True):
            assert tokens == tuple(measured(example.pairs).tolist())
        assert all(micro.short == step.short for micro in micro_batches(step, processes=2))


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(64, 2000), st.integers(0, 3))
def test_steps_have_as_many_lists_as_the_budget_holds(count: int, batch_tokens: int, number: int) -> None:
    found = steps(MANY[:count], number, batch_tokens=batch_tokens)
    sizes = [[sum(tokens) for tokens in step.lengths] for step in found]
    assert sum(map(len, sizes)) == count
    assert all(sum(size) <= batch_tokens or len(size) == 1 for size in sizes)
    # The next list would have been too much.
    assert all(sum(one) + other[0] > batch_tokens for one, other in itertools.pairwise(sizes))


def test_seed_and_epoch_decide() -> None:
    first = drawn(steps(MANY))
    assert drawn(steps(MANY)) == first
    for seed, number in ((13, 1), (14, 0), (0, 13), (13, 13)):
        other = drawn(steps(MANY, number, seed=seed))
        assert sum(a[0] == b[0] for a, b in zip(first, other, strict=True)) < len(MANY) / 10
        assert sum(dict(first)[query_id] != docs for query_id, docs in other) > len(MANY) / 3


def test_a_draw_does_not_depend_on_the_other_lists_nor_on_the_budget() -> None:
    first = dict(drawn(steps(MANY)))
    assert dict(drawn(steps(MANY, batch_tokens=99))) == first
    few = dict(drawn(steps(MANY[:50])))
    assert few == {query_id: first[query_id] for query_id in few}


def test_a_step_is_a_random_sample_of_the_lists() -> None:
    """Long lists are not together more often than by chance: their spread in steps is that of all lists."""
    found = [step for number in range(20) for step in steps(MANY[:WINDOW], number, batch_tokens=600)]
    means = [[np.mean(tokens) for tokens in step.lengths] for step in found if len(step.lengths) > 1]
    within = np.mean([np.var(step, ddof=1) for step in means])
    whole = np.var([mean for step in means for mean in step], ddof=1)
    assert within == pytest.approx(whole, rel=0.1)


def test_lists_that_teach_nothing_are_left_out_and_counted() -> None:
    barren = [training_list(1000, 0, 5), training_list(1001, 2, 0)]
    made = Steps([barren[0], *MANY[:5], barren[1]], lengths, Shape(1, 3), batch_tokens=400, seed=13)
    assert made.left_out == 2
    assert list(made.lists) == MANY[:5]
    assert {query_id for query_id, _ in drawn(list(made.epoch(0)))} == {x.query_id for x in MANY[:5]}


@given(STEPS, st.none() | st.integers(1, 3000), st.integers(1, 4))
def test_micro_batches_are_the_step_cut_between_lists(step: Step, memory: int | None, processes: int) -> None:
    found = micro_batches(step, memory, processes=processes)
    given_lists = sorted(zip(step.examples, step.lengths, strict=True), key=str)
    got = []
    for micro in found:
        remaining = iter(micro.lengths)
        got += [(example, tuple(next(remaining) for _ in example.doc_ids)) for example in micro.examples]
        assert next(remaining, None) is None
        assert micro.pairs == [pair for example in micro.examples for pair in example.pairs]
        assert sorted(place for chunk in micro.chunks for place in chunk) == list(range(len(micro.lengths)))
        assert memory is None or micro.tokens <= memory or len(micro.examples) == 1
    assert sorted(got, key=str) == given_lists
    if memory is None:
        assert len(found) <= processes


def test_lists_of_similar_length_are_in_one_micro_batch() -> None:
    found = micro_batches(step_of([50, 50], [9, 9], [51, 50], [10, 9]), 110)
    assert [[example.query_id for example in micro.examples] for micro in found] == [["q1", "q3"], ["q0"], ["q2"]]


def test_each_process_has_an_equal_part() -> None:
    step = step_of(*[[20 + i] * 8 for i in range(30)])
    for size in (1, 2, 3, 4):
        found = micro_batches(step, processes=size)
        loads = [sum(sum(micro.lengths) for micro in mine) for mine in share(found, size)]
        assert len(found) == size
        assert max(loads) <= sum(loads) / size + 8 * 50


def test_some_processes_may_get_nothing() -> None:
    found = micro_batches(step_of([7, 7]), processes=3)
    assert [len(mine) for mine in share(found, 3)] == [1, 0, 0]


def micro_of(tokens: int) -> Micro:
    return Micro((), (tokens,), ((0,),))


@given(st.lists(st.integers(1, 90), max_size=7), st.integers(1, 3))
def test_shares_are_as_even_as_graham_proved(tokens: list[int], size: int) -> None:
    """No more than 4/3 - 1/(3 size) of the best, which is found by trying them all."""
    micros = [micro_of(count) for count in tokens]
    shares = share(micros, size)
    assert len(shares) == size
    assert sorted(micro for mine in shares for micro in mine) == sorted(micros)
    best = min(
        max(sum(t for t, home in zip(tokens, homes, strict=True) if home == k) for k in range(size))
        for homes in itertools.product(range(size), repeat=len(tokens))
    )
    assert 3 * size * max(sum(micro.tokens for micro in mine) for mine in shares) <= (4 * size - 1) * best
    assert share(micros, size) == shares


def cost(found: Sequence[Sequence[int]], tokens: Sequence[int], each: int) -> int:
    return sum(max(tokens[i] for i in chunk) * len(chunk) + each for chunk in found)


@settings(deadline=None)
@given(st.lists(st.integers(1, 20), max_size=9), st.integers(0, 30))
def test_chunks_cost_the_least_that_any_cut_does(tokens: list[int], each: int) -> None:
    found = chunks_of(tokens, each)
    assert sorted(place for chunk in found for place in chunk) == list(range(len(tokens)))
    order = sorted(range(len(tokens)), key=lambda i: tokens[i])
    cuts = [
        [order[a:b] for a, b in itertools.pairwise([0, *inner, len(order)])]
        for count in range(max(len(order), 1))
        for inner in itertools.combinations(range(1, len(order)), count)
    ]
    assert cost(found, tokens, each) == (min(cost(cut, tokens, each) for cut in cuts) if tokens else 0)
    widths = [max(tokens[i] for i in chunk) for chunk in found]
    assert widths == sorted(widths, reverse=True)


def test_little_is_wasted_on_usual_lengths() -> None:
    """Of passages whose length is log-normal, a third of them cut at 128 tokens, in steps of 4096."""
    rng = np.random.default_rng(5)
    found = np.minimum(128, np.exp(rng.normal(4.5, 0.6, (400, 8)))).astype(int) + 1
    micros = [micro for i in range(0, 400, 5) for micro in micro_batches(step_of(*found[i : i + 5].tolist()))]
    computed = sum(micro.tokens for micro in micros)
    assert sum(sum(micro.lengths) for micro in micros) >= 0.95 * computed
    assert np.mean([sum(micro.lengths) / len(micro.chunks) for micro in micros]) > 500


@pytest.mark.parametrize("lengths", [(32,) * 9, (5, 9, 9, 30, 31, 32, 32, 32, 32)], ids=["equal", "mixed"])
@pytest.mark.parametrize("memory_tokens", [31, 32, 64, 100, 288])
def test_no_pass_is_larger_than_memory_holds(lengths: tuple[int, ...], memory_tokens: int) -> None:
    """Of one long list, whose pairs may all be equally long: cut at max_length."""
    (micro,) = micro_batches(step_of(lengths), memory_tokens)
    assert sorted(place for chunk in micro.chunks for place in chunk) == list(range(9))
    for chunk in micro.chunks:
        assert len(chunk) == 1 or len(chunk) * max(lengths[place] for place in chunk) <= memory_tokens
