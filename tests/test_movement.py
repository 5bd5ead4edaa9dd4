"""How much two orders differ: closed forms."""

from __future__ import annotations

import math
import random

import pytest

from secondstage.serve.server.movement import (
    Movement,
    discounted_overlap,
    displacement,
    kendall_tau,
    movement,
    overlap,
)

IDS = [f"d{i}" for i in range(30)]


def test_the_same_order_has_not_moved() -> None:
    assert movement(IDS, IDS) == Movement(True, 0.0, 0.0)


@pytest.mark.parametrize("count", [1, 2, 7, 10, 30])
def test_a_reversed_list(count: int) -> None:
    ids = IDS[:count]
    found = movement(ids, ids[::-1])
    top = min(count, 10)
    assert found == Movement(
        count == 1,
        sum(abs(count + 1 - 2 * i) for i in range(1, top + 1)) / top,
        # Of 30 none of the last ten was among the first ten; up to ten all were.
        1.0 if count == 30 else 0.0,
    )


def test_one_document_from_below_takes_the_head() -> None:
    """It moved by 19, the nine behind it by 1 each; one of ten is new."""
    final = [IDS[19], *IDS[:19], *IDS[20:]]
    found = movement(IDS, final)
    assert found is not None
    assert (found.top1, found.displacement) == (False, (19 + 9 * 1) / 10)
    assert found.newcomers == pytest.approx(1 / 10)


def test_what_lies_below_the_top_does_not_count() -> None:
    final = IDS[:10] + IDS[10:][::-1]
    assert displacement(IDS, final) == 0
    assert overlap(IDS, final) == 1


def test_nothing_found_has_no_movement() -> None:
    assert movement([], []) is None


def test_discounted_overlap() -> None:
    """Two of three are the same: the one at the head, and the last one."""
    gain = 1 + 1 / math.log2(4)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert discounted_overlap(["a", "b", "c", "d"], ["b", "d", "a", "c"], 3) == pytest.approx(gain / ideal)
    assert discounted_overlap(IDS, IDS[:10][::-1] + IDS[10:]) == pytest.approx(1)
    assert discounted_overlap(IDS, IDS[10:] + IDS[:10]) == 0


def test_a_stranger_at_the_head_costs_more_than_at_the_end() -> None:
    head, end = ["x", "a", "b"], ["a", "b", "x"]
    assert discounted_overlap(["a", "b", "c"], head, 3) < discounted_overlap(["a", "b", "c"], end, 3)


def test_kendall_tau() -> None:
    assert kendall_tau(IDS, IDS) == pytest.approx(1)
    assert kendall_tau(IDS, IDS[::-1]) == pytest.approx(-1)
    assert kendall_tau(["a", "b", "c"], ["b", "a", "c"]) == pytest.approx((2 - 1) / 3)
    assert kendall_tau(["a"], ["a"]) is None
    shuffled = random.Random(3).sample(IDS, len(IDS))
    pairs = [(i, j) for i in range(30) for j in range(i)]
    places = [IDS.index(doc_id) for doc_id in shuffled]
    agree = sum(places[i] > places[j] for i, j in pairs)
    assert kendall_tau(IDS, shuffled) == pytest.approx((2 * agree - len(pairs)) / len(pairs))
