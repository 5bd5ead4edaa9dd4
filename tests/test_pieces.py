"""Pieces hold all items once, in their order, and none is too large that need not be."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from secondstage.pieces import pieces


@given(st.lists(st.integers(0, 9)), st.integers(1, 5), st.integers(1, 12))
def test_pieces_are_as_large_as_they_may_be(sizes: list[int], count: int, total: int) -> None:
    found = list(pieces(sizes, int, count=count, total=total))
    assert [size for piece in found for size in piece] == sizes
    assert all(piece and len(piece) <= count for piece in found)
    assert all(sum(piece) <= total or len(piece) == 1 for piece in found)
    for piece, after in pairwise(found):
        assert len(piece) == count or sum(piece) + after[0] > total


def test_items_are_read_as_they_are_needed() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for i in range(10):
            read.append(i)
            yield i

    first = next(pieces(items(), lambda _: 1, count=3, total=9))
    assert (first, read) == ([0, 1, 2], [0, 1, 2, 3])
