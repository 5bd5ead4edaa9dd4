"""Which kind of index is chosen for how many vectors."""

from __future__ import annotations

from typing import Any

import pytest

from secondstage.config import DenseConfig
from secondstage.firststage.vectorkinds import choose, code_bytes, lists_for, overrun, size_gib


def config(index: Any, gib: float = 4.0) -> DenseConfig:
    return DenseConfig(index=index, memory_gib=gib)


@pytest.mark.parametrize(
    ("count", "gib", "kind"),
    [
        (10_000, 4, "flat"),
        (260_000, 4, "flat"),
        (300_000, 4, "hnsw"),
        (1_000_000, 4, "ivf"),
        (1_000_000, 1, "pq"),
        (10_000_000, 4, "pq"),
        (100_000, 0.1, "pq"),
    ],
)
def test_the_kind_follows_size_and_budget(count: int, gib: float, kind: str) -> None:
    assert choose(config("auto", gib), count, 384) == kind
    assert choose(config("flat", gib), count, 384) == "flat"


@pytest.mark.parametrize("gib", [0.05, 0.03, 0.02, 0.015])
def test_a_code_is_as_long_as_the_budget_allows(gib: float) -> None:
    code = code_bytes(config("pq", gib), 500_000, 384)
    assert 384 % code == 0
    assert code <= 48
    assert size_gib("pq", 500_000, 384, code) <= gib
    longer = [m for m in range(code + 1, 49) if 384 % m == 0]
    assert not longer or size_gib("pq", 500_000, 384, longer[0]) > gib


def test_a_budget_too_small_for_any_gives_the_smallest() -> None:
    assert code_bytes(config("pq", 0.001), 500_000, 384) == 1


@pytest.mark.parametrize(
    ("index", "kind", "smaller"),
    [("hnsw", "hnsw", "auto may choose"), ("auto", "pq", "none is smaller"), ("pq", "pq", "none is smaller")],
)
def test_an_index_beyond_the_budget_is_told(index: str, kind: Any, smaller: str) -> None:
    told = overrun(config(index, 0.01), kind, 0.168)
    assert told is not None
    assert f"{kind} takes 0.168 GiB, more than first_stage.dense.memory_gib=0.01" in told
    assert smaller in told
    assert overrun(config(index, 0.168), kind, 0.168) is None


@pytest.mark.parametrize("count", [1, 38, 1000, 24_000, 1_000_000])
def test_each_list_has_enough_to_be_trained_on(count: int) -> None:
    assert 1 <= lists_for(count) <= max(1, count // 39)
    assert lists_for(count) <= 4 * count**0.5
