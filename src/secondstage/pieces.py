"""Work in pieces that memory holds: some are many, others are long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def pieces(items: Iterable[T], size: Callable[[T], int], *, count: int, total: int) -> Iterator[list[T]]:
    """Successive items, up to `count` of them, whose sizes make up to `total`; one that is larger is a piece alone.

    Args:
        items: read as they are needed.
        size: of one, e.g. its characters.
        count: of items in a piece, at most.
        total: of their sizes, at most.
    """
    piece, held = list[T](), 0
    for item in items:
        own = size(item)
        if piece and (len(piece) == count or held + own > total):
            yield piece
            piece, held = [], 0
        piece.append(item)
        held += own
    if piece:
        yield piece
