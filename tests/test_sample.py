"""The choice of negatives: decided by the seed and the query, each sampler and share in closed form."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.config import MineConfig
from secondstage.lists import NEGATIVE, Candidate
from secondstage.mine.sample import SAMPLERS, STRATA, choose, generator, random_count

NEGATIVES = [Candidate(f"d{i}", 0, False, "bm25", i, float(-i), NEGATIVE) for i in range(1, 13)]
RANDOM = [Candidate(f"r{i}", 0, False, "random", 0, 0.0, NEGATIVE) for i in range(9)]


def sample(
    count: int,
    negatives: list[Candidate] = NEGATIVES,
    seed: int = 13,
    name: str = "q",
    **settings: Any,
) -> list[str]:
    """The ids of those that are chosen, in the order of the list."""
    chosen = choose(negatives, MineConfig(negatives=count, **settings), count, generator(seed, name))
    assert chosen <= {candidate.doc_id for candidate in negatives}
    return [candidate.doc_id for candidate in negatives if candidate.doc_id in chosen]


def ids(*numbers: int) -> list[str]:
    return [f"d{i}" for i in numbers]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("count", "expected"), [(1, 1), (5, 5), (11, 11), (12, 12), (13, 12), (100, 12)])
def test_as_many_as_asked_or_all(sampler: str, count: int, expected: int) -> None:
    assert len(sample(count, sampler=sampler)) == expected


def test_a_run_may_call_itself_random() -> None:
    """What was drawn from the corpus has no rank; what has one was found, whoever found it."""
    named = [candidate._replace(retriever="random") for candidate in NEGATIVES]
    assert sample(5, named) == sample(5)
    assert sample(4, [*named, *RANDOM], random_share=0.5) == sample(4, [*NEGATIVES, *RANDOM], random_share=0.5)


def test_of_none_there_are_none() -> None:
    assert sample(5, []) == []
    assert choose(NEGATIVES, MineConfig(negatives=5), 0, generator(13, "q")) == set()


def test_the_draws_are_those_of_earlier_versions() -> None:
    assert sample(5) == ids(2, 3, 4, 9, 10)
    assert sample(5, name="q1") == ids(1, 2, 3, 6, 11)


@pytest.mark.parametrize("sampler", ["uniform", "stratified"])
def test_seed_and_name_decide(sampler: str) -> None:
    assert sample(5, sampler=sampler) == sample(5, sampler=sampler)
    assert len({tuple(sample(5, name=f"q{i}", sampler=sampler)) for i in range(20)}) > 15
    assert len({tuple(sample(5, seed=seed, sampler=sampler)) for seed in range(20)}) > 15


def test_names_of_several_parts_are_names_of_their_own() -> None:
    draws = [generator(13, *names).random() for names in (("a", "b"), ("ab",), ("a",), ("b", "a"))]
    assert len(set(draws)) == 4


def test_what_other_queries_draw_does_not_matter() -> None:
    alone = sample(5, name="q7")
    many = {f"q{i}": sample(5, name=f"q{i}") for i in reversed(range(20))}
    assert many["q7"] == alone


def test_every_rank_is_as_likely() -> None:
    draws = 4000
    counts = Counter(doc_id for i in range(draws) for doc_id in sample(3, name=f"q{i}"))
    share = 3 / len(NEGATIVES)
    deviation = (draws * share * (1 - share)) ** 0.5
    assert len(counts) == len(NEGATIVES)
    assert np.abs(np.array(list(counts.values())) - draws * share).max() < 5 * deviation


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, ids(1)), (2, ids(1, 6)), (4, ids(1, 2, 6, 7)), (5, ids(1, 2, 3, 6, 7)), (8, ids(1, 2, 3, 4, 5, 6, 7, 8))],
)
def test_a_band_is_the_head_and_the_middle(count: int, expected: list[str]) -> None:
    """Of 12: a middle of 2 starts at place 6 (5 before it, 5 behind)."""
    assert sample(count, sampler="band") == expected


def test_the_top_is_the_hardest_for_whoever_scores() -> None:
    assert sample(3, sampler="top") == ids(1, 2, 3)
    teacher = {3: 0.5, 7: 0.9, 12: 0.7, 1: -1.0}
    scored = [c._replace(teacher_score=teacher.get(c.rank)) for c in NEGATIVES]
    settings: dict[str, Any] = {"scores": "teacher", "teachers": {"t": {"model": "m"}}, "sampler": "top"}
    assert sample(3, scored, **settings) == ids(3, 7, 12)
    assert sample(6, scored, **settings) == ids(1, 2, 3, 4, 7, 12)  # those without a score come last, in their order


def test_strata_of_the_range_are_filled_in_turn() -> None:
    """Scores 100 … 93, and 50, 10, 9, 0: of four parts of 0 … 100 one is empty, one has one."""
    values = [*range(100, 92, -1), 50, 10, 9, 0]
    spread = [c._replace(score=float(value)) for c, value in zip(NEGATIVES, values, strict=True)]
    for i in range(20):
        found = sample(4, spread, name=f"q{i}", sampler="stratified")
        parts = [min(3, int(4 * (100 - values[int(doc_id[1:]) - 1]) / 100)) for doc_id in found]
        assert parts == [0, 0, 2, 3]
    draws = Counter(doc_id for i in range(4000) for doc_id in sample(4, spread, name=f"q{i}", sampler="stratified"))
    assert draws["d9"] == 4000
    assert all(abs(draws[doc_id] - 4000 / 3) < 5 * (4000 * 2 / 9) ** 0.5 for doc_id in ids(10, 11, 12))
    assert all(abs(draws[doc_id] - 4000 / 4) < 5 * (4000 * 3 / 16) ** 0.5 for doc_id in ids(*range(1, 9)))


@pytest.mark.parametrize("count", [STRATA, STRATA + 1])
def test_equal_or_unknown_scores_are_one_stratum(count: int) -> None:
    equal = [c._replace(score=1.0) for c in NEGATIVES]
    counts = Counter(doc_id for i in range(400) for doc_id in sample(count, equal, name=f"q{i}", sampler="stratified"))
    assert len(counts) == 12
    assert min(counts.values()) > 150
    settings: dict[str, Any] = {"scores": "teacher", "teachers": {"t": {"model": "m"}}, "sampler": "stratified"}
    assert len(sample(count, equal, **settings)) == count


def found_by(*retrievers: str) -> list[Candidate]:
    """What is drawn from the corpus has no rank."""
    return [
        c._replace(retriever=retriever, rank=0 if retriever == "random" else c.rank)
        for c, retriever in zip(NEGATIVES, retrievers, strict=False)
    ]


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({}, ids(1, 2, 3, 4)),
        ({"dense": 0.5}, ids(1, 2, 5, 6)),
        ({"dense": 1.0}, ids(5, 6, 7, 8)),
        # What both found counts for either.
        ({"bm25": 0.25, "dense": 0.25}, ids(1, 2, 3, 5)),
        ({"dense": 0.75, "bm25": 0.25}, ids(1, 5, 6, 7)),
        # There is no sparse list, nor is "den" a retriever: their share goes to the rest.
        ({"sparse": 0.5, "den": 0.5}, ids(1, 2, 3, 4)),
        ({"sparse": 0.5, "dense": 0.5}, ids(1, 2, 5, 6)),
    ],
)
def test_quotas(quotas: dict[str, float], expected: list[str]) -> None:
    negatives = found_by(*["bm25"] * 4, "bm25+dense", *["dense"] * 3)
    assert sample(4, negatives, sampler="top", quotas=quotas) == expected


def test_what_several_found_is_not_taken_twice() -> None:
    negatives = found_by("bm25+dense", "bm25+dense", "bm25", "dense", "bm25", "dense")
    assert sample(2, negatives, sampler="top", quotas={"bm25": 0.5, "dense": 0.5}) == ids(1, 2)
    assert sample(4, negatives, sampler="top", quotas={"bm25": 0.5, "dense": 0.5}) == ids(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("share", "count", "found", "drawn"),
    [
        (0.0, 8, 8, 0),
        (0.25, 8, 6, 2),
        (1.0, 8, 0, 8),
        (0.5, 5, 2, 3),
        (0.05, 8, 8, 0),
        (1.0, 20, 0, 9),
        (0.25, 24, 12, 6),
    ],
)
def test_a_share_is_drawn_and_one_kind_never_stands_in_for_the_other(
    share: float, count: int, found: int, drawn: int
) -> None:
    chosen = sample(count, [*NEGATIVES, *RANDOM], random_share=share)
    assert [sum(doc_id[0] == kind for doc_id in chosen) for kind in "dr"] == [found, drawn]
    assert random_count(MineConfig(negatives=count, random_share=share)) >= drawn
    assert [doc_id for doc_id in chosen if doc_id[0] == "r"] == [f"r{i}" for i in range(drawn)]


@given(
    st.lists(st.sampled_from(["bm25", "dense", "bm25+dense", "random"]), max_size=12),
    st.sampled_from(list(SAMPLERS)),
    st.integers(1, 14),
    st.integers(0, 14),
    st.sampled_from([(0.0, 0.5, 0.5), (0.2, 0.4, 0.4), (0.5, 0.1, 0.2), (0.3, 0.0, 0.7)]),
)
def test_no_choice_exceeds_its_bounds(
    retrievers: list[str], sampler: str, asked: int, count: int, shares: tuple[float, float, float]
) -> None:
    negatives = found_by(*retrievers)
    quotas = {"bm25": shares[1], "dense": shares[2]}
    config = MineConfig.model_validate(
        {"negatives": asked, "random_share": shares[0], "quotas": quotas, "sampler": sampler}
    )
    chosen = choose(negatives, config, count, generator(13, "q"))
    by_kind = Counter(c.retriever == "random" for c in negatives if c.doc_id in chosen)
    there = Counter(retriever == "random" for retriever in retrievers)
    drawn = random_count(config)
    assert len(chosen) <= count
    assert by_kind[True] == min(drawn, there[True], count)
    assert by_kind[False] <= min(asked - drawn, there[False])
    assert len(chosen) == min(count, by_kind[True] + min(asked - drawn, there[False]))
