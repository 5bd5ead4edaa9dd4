"""How long rerankers take for so many pairs, learnt while they serve, and how deep a budget of time lets them read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from secondstage.collection import Documents

# Fewer candidates than this are not worth a reranker: then the order of the stage before is given.
FLOOR = 5
# What is scored to measure a reranker.
TIMED_PAIRS = 32
WORDS_OF_A_QUERY = 8
# The share of a new observation in the average, as in TCP's retransmission timer (Jacobson 1988); and how many mean
# deviations are kept in reserve: TCP has four; three keep 19 of 20 searches within their budget, and deeper (LOG.md).
SHARE, RESERVE = 0.125, 3.0


class Cost(NamedTuple):
    """What a reranker takes on an idle machine: milliseconds at once, and for every pair."""

    overhead: float
    per_pair: float

    def of(self, pairs: int) -> float:
        """Milliseconds."""
        return self.overhead + self.per_pair * pairs


class Load(NamedTuple):
    """How much longer than on the idle machine it takes: an exponential average, and its mean deviation."""

    mean: float = 1.0
    deviation: float = 0.0

    def after(self, observed: float) -> Load:
        """With one more observation."""
        deviation = self.deviation + SHARE * (abs(observed - self.mean) - self.deviation)
        return Load(self.mean + SHARE * (observed - self.mean), deviation)

    def unseen(self) -> Load:
        """After a request that was not served: nearer to idle, or it would never be tried again."""
        return Load(self.mean + SHARE * (1.0 - self.mean), (1 - SHARE) * self.deviation)

    @property
    def expected(self) -> float:
        """What to reckon with."""
        return self.mean + RESERVE * self.deviation


class Pace:
    """The times of the rerankers of a cascade, by stage.

    Attributes:
        costs: as measured.
        loads: as observed since.
    """

    def __init__(self, costs: Sequence[Cost]) -> None:
        self.costs = tuple(costs)
        self.loads = [Load()] * len(self.costs)

    def observe(self, stage: int, pairs: int, milliseconds: float) -> None:
        """Learn from what one request took, waiting included."""
        usual = self.costs[stage].of(pairs)
        if usual > 0:
            self.loads[stage] = self.loads[stage].after(milliseconds / usual)

    def skip(self, stage: int) -> None:
        """Learn that a reranker was left out, as too slow."""
        self.loads[stage] = self.loads[stage].unseen()

    def expected(self, stage: int, pairs: int) -> float:
        """Milliseconds to reckon with."""
        return self.loads[stage].expected * self.costs[stage].of(pairs)


def affordable(
    depths: Sequence[int], budget_ms: float, expected: Callable[[int, int], float], floor: int = FLOOR
) -> tuple[int, ...]:
    """The deepest that every reranker may read, all in the same proportion to their usual depths; zeros if none.

    Args:
        depths: usual ones, by stage, never rising.
        budget_ms: of all stages together.
        expected: milliseconds of a stage for so many pairs, rising with them.
        floor: none reads fewer than this, unless it usually does.
    """
    deepest = depths[0]
    for step in range(deepest, 0, -1):
        tried = tuple(max(min(floor, depth), depth * step // deepest) for depth in depths)
        if sum(expected(stage, depth) for stage, depth in enumerate(tried)) <= budget_ms:
            return tried
    return (0,) * len(depths)


def fit(few: tuple[int, float], many: tuple[int, float]) -> Cost:
    """The cost that explains what `few` and `many` pairs took, `(pairs, milliseconds)`; never negative."""
    (n, a), (m, b) = few, many
    per_pair = max(0.0, (b - a) / (m - n)) if m > n else b / m
    return Cost(max(0.0, b - per_pair * m), per_pair)


def measure(
    score: Callable[[list[tuple[str, str]]], object], pairs: Sequence[tuple[str, str]], clock: Callable[[], float]
) -> Cost:
    """Time a reranker on a quarter of some pairs and on all of them: the median of three, after one to warm up."""
    sizes = sorted({max(1, len(pairs) // 4), len(pairs)})
    score(list(pairs))
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(3):
        for size in sizes:
            start = clock()
            score(list(pairs[:size]))
            taken[size].append(1000 * (clock() - start))
    points = [(size, float(np.median(taken[size]))) for size in sizes]
    return fit(points[0], points[-1])


def pairs_to_time(documents: Documents, depth: int) -> list[tuple[str, str]]:
    """Pairs of the corpus itself, evenly over it, as many as are usual; the beginning of a document is the query."""
    rows = np.linspace(0, len(documents) - 1, min(depth, TIMED_PAIRS)).astype(int).tolist()
    contents = [documents[row].content for row in rows]
    query = " ".join(contents[0].split()[:WORDS_OF_A_QUERY])
    return [(query, content) for content in contents]
