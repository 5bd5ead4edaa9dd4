"""Whose pairs are scored next.

Requests take turns, first come, first served. A turn is one batch's worth of tokens. A usual request is done in one, so
small requests are served in the order of their arrival, and wait for no more than a batch of each one before them; a
large one gets a batch a round, so that it neither holds up the others nor starves. (Sharing more finely would let all
requests finish at the end; whole requests at a time would let the largest block all others.)

Several turns make a window, whose pairs are sorted by length before they are cut into batches: that leaves little
padding. It is bounded, so that who comes first does not wait until the whole queue is scored.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from secondstage.run import Scores

from .engine import Engine, Row

# Turns in a window, where there are so many.
TURNS = 4


class Waiting:
    """A request's pairs, which are scored in any batches and put together again.

    Attributes:
        rows: the pairs.
        future: gets the logits, or is done before: cancelled, expired, broken.
        tokens: of the pairs that have no score yet.
        scores: `[pairs]`, in their order.
        missing: how many of them are not there yet.
        started: when its first batch was, as `time.monotonic` tells.
    """

    def __init__(self, rows: Sequence[Row], future: asyncio.Future[Scores]) -> None:
        self.rows, self.future = rows, future
        self.tokens = sum(row.tokens for row in rows)
        self.scores = np.zeros(len(rows), np.float32)
        self.missing = len(rows)
        self.started: float | None = None
        self._order = sorted(range(len(rows)), key=lambda i: -rows[i].tokens)
        self._taken = 0

    @property
    def has_more(self) -> bool:
        """Whether there are pairs that had no turn yet."""
        return self._taken < len(self._order)

    def turn(self, tokens: int) -> list[Pick]:
        """The next pairs, the longest first: as many as have so many tokens, and one at least."""
        picks: list[Pick] = []
        while self.has_more:
            place = self._order[self._taken]
            tokens -= self.rows[place].tokens
            if picks and tokens < 0:
                break
            picks.append(Pick(self, place))
            self._taken += 1
        return picks


class Pick(NamedTuple):
    """A pair of a request."""

    request: Waiting
    place: int

    @property
    def row(self) -> Row:
        """Its tokens."""
        return self.request.rows[self.place]


class Rotation:
    """The requests that wait, in the order of their turns."""

    def __init__(self) -> None:
        self._requests: deque[Waiting] = deque()

    def __bool__(self) -> bool:
        return bool(self._requests)

    @property
    def tokens(self) -> int:
        """Of all pairs that wait for a turn, tokenised already."""
        return sum(request.tokens for request in self._requests)

    def add(self, request: Waiting) -> None:
        """Let it wait."""
        self._requests.append(request)

    def window(self, engine: Engine) -> list[list[Pick]]:
        """The next batches, of similar length each; requests that are done already are dropped.

        Args:
            engine: cuts the batches; a turn is as many tokens as one of them holds.
        """
        picks: list[Pick] = []
        tokens = 0
        while self._requests and tokens < TURNS * engine.batch_tokens:
            request = self._requests.popleft()
            if request.future.done():
                continue
            turn = request.turn(engine.batch_tokens)
            tokens += sum(pick.row.tokens for pick in turn)
            picks += turn
            if request.has_more:
                self._requests.append(request)
        batches = engine.cut([pick.row.tokens for pick in picks])
        return [[picks[i] for i in places] for places in batches]
