"""The choice of negatives: decided by the seed and the query, even over the ranks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from secondstage.lists import NEGATIVE, Candidate
from secondstage.mine.sample import generator, sample

NEGATIVES = [Candidate(f"d{i}", 0, False, "bm25", i, float(-i), NEGATIVE) for i in range(1, 13)]


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 1), (5, 5), (12, 12), (13, 12), (100, 12)])
def test_as_many_as_asked_or_all_in_order(count: int, expected: int) -> None:
    chosen = sample(NEGATIVES, count, generator(13, "q"))
    assert len(set(chosen)) == expected
    assert chosen == sorted(chosen, key=lambda candidate: candidate.rank)
    assert set(chosen) <= set(NEGATIVES)


def test_of_none_there_are_none() -> None:
    assert sample([], 5, generator(13, "q")) == []


def test_seed_and_name_decide() -> None:
    def chosen(seed: int, name: str) -> list[Candidate]:
        return sample(NEGATIVES, 5, generator(seed, name))

    assert chosen(13, "q1") == chosen(13, "q1")
    assert len({tuple(chosen(13, f"q{i}")) for i in range(20)}) > 15
    assert len({tuple(chosen(seed, "q1")) for seed in range(20)}) > 15


def test_what_other_queries_draw_does_not_matter() -> None:
    alone = sample(NEGATIVES, 5, generator(13, "q7"))
    many = {f"q{i}": sample(NEGATIVES, 5, generator(13, f"q{i}")) for i in reversed(range(20))}
    assert many["q7"] == alone


def test_every_rank_is_as_likely() -> None:
    draws = 4000
    counts = Counter(c.rank for i in range(draws) for c in sample(NEGATIVES, 3, generator(13, f"q{i}")))
    share = 3 / len(NEGATIVES)
    deviation = (draws * share * (1 - share)) ** 0.5
    assert len(counts) == len(NEGATIVES)
    assert np.abs(np.array(list(counts.values())) - draws * share).max() < 5 * deviation
