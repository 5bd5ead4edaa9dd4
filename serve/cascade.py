"""One reranker after another over the same candidates, without scoring anything itself.

Each reads the head of the order that the one before it made. Those before the last order their head by their own
scores. The last one's scores are fused with the first stage's, over what it read; below stands what it did not read, in
the order of the stage before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from secondstage.collection import Documents
from secondstage.run import Ranking, Run, Scores, strictly_decreasing
from secondstage.scoring import Scorer, rescored

from .fuse import fuse

T = TypeVar("T")


class Ask(NamedTuple):
    """Pairs to be scored.

    Attributes:
        stage: which reranker is asked: 0 is the first of the cascade.
        pairs: `[n]` (query text, document text), never none.
    """

    stage: int
    pairs: list[tuple[str, str]]


Asking = Generator[Ask, Scores, T]
"""Yields what is to be scored, is sent `[n]` logits, and returns what was made of them."""


class Stage(NamedTuple):
    """A reranker of a cascade that comes before the last one.

    Attributes:
        scorer: a reranker, by whose scores alone the head is ordered.
        depth: how much of each list it reads.
    """

    scorer: Scorer
    depth: int


class Runs(NamedTuple):
    """The same candidates in three orders."""

    first_stage: Run
    reranked: Run
    pipeline: Run

    def read(self, depth: int) -> Runs:
        """The part that the last reranker read: the scores of a cascade's are its own there alone, and fused there."""
        head = narrowed(self.first_stage, self.reranked, depth)
        return Runs(head, self.reranked.top(depth), self.pipeline.top(depth))


class Cascaded(NamedTuple):
    """What the last reranker read, and where.

    Attributes:
        before: all candidates, in the order of the stage before the last reranker.
        head: those that it read, in the first stage's order and with its scores; empty lists if it read none.
        reranked: the same with the last reranker's logits, by which they are ordered.
    """

    before: Run
    head: Run
    reranked: Run

    def runs(self, first: Run, weight: float) -> Runs:
        """The three orders of all candidates."""
        fused = fuse(self.head, self.reranked, weight)
        return Runs(first, settled(self.before, self.reranked, "reranked"), settled(self.before, fused, "pipeline"))


def reranking(
    first: Run, queries: Mapping[str, str], documents: Documents, stages: int, depth_of: Callable[[int], int]
) -> Asking[Cascaded]:
    """Ask one reranker after the other.

    Args:
        first: the first stage's lists.
        queries: texts by query id.
        documents: the corpus.
        stages: how many rerankers there are.
        depth_of: how much of each list a reranker reads; asked when its turn comes; 0 ends the cascade before it.

    Raises:
        UserError: a score is not finite.
    """
    before = first
    for stage in range(stages):
        depth = depth_of(stage)
        head = narrowed(first, before, depth)
        pairs = [
            (queries[query_id], content)
            for query_id, ranking in head.items()
            for content in documents.contents(ranking.doc_ids)
        ]
        scores = (yield Ask(stage, pairs)) if pairs else np.empty(0, np.float32)
        reranked = rescored(head, scores)
        if depth < 1 or stage == stages - 1:
            return Cascaded(before, head, reranked)
        before = settled(before, reranked, "reranked")
    raise ValueError("a cascade has at least one reranker")


def narrowed(first: Run, before: Run, depth: int) -> Run:
    """Of each list of `first` the documents that `before` has in its first `depth` places."""

    def kept(ranking: Ranking, head: frozenset[str]) -> Ranking:
        places = [i for i, doc_id in enumerate(ranking.doc_ids) if doc_id in head]
        return Ranking(
            tuple(ranking.doc_ids[i] for i in places),
            ranking.scores[places],
            tuple(ranking.retrievers[i] for i in places),
        )

    rankings = {
        query_id: kept(ranking, frozenset(before[query_id].doc_ids[:depth])) for query_id, ranking in first.items()
    }
    return Run(first.name, rankings)


def settled(before: Run, head: Run, name: str) -> Run:
    """The lists of `head`, and below each what it leaves of `before`, in that order, one point of score apart."""
    return Run(name, {query_id: _settled(ranking, head[query_id]) for query_id, ranking in before.items()})


def _settled(before: Ranking, head: Ranking) -> Ranking:
    known = frozenset(head.doc_ids)
    places = [i for i, doc_id in enumerate(before.doc_ids) if doc_id not in known]
    if not known:
        return before
    lowest = float(head.scores[-1])
    below = [lowest - step for step in range(1, len(places) + 1)]
    return Ranking(
        (*head.doc_ids, *(before.doc_ids[i] for i in places)),
        strictly_decreasing([*head.scores.tolist(), *below]),
        (*head.retrievers, *(before.retrievers[i] for i in places)),
    )


@dataclass(frozen=True)
class Made(Generic[T]):
    """What a generator returned: it asks for no more."""

    value: T


def advance(asking: Asking[T], scores: Scores | None) -> Ask | Made[T]:
    """Go on with a generator: with none it begins, with scores it goes on.

    `StopIteration` cannot leave a thread or a coroutine: here its value is given back.
    """
    try:
        return next(asking) if scores is None else asking.send(scores)
    except StopIteration as done:
        return Made(done.value)


def drive(asking: Asking[T], scorers: Sequence[Scorer], *, label: str | None = None) -> T:
    """Answer whatever is asked by the scorers of the stages, and return what is made of it."""
    asked = advance(asking, None)
    while isinstance(asked, Ask):
        asked = advance(asking, scorers[asked.stage].score(asked.pairs, label=label))
    return asked.value


def drive_many(askings: Sequence[Asking[T]], scorers: Sequence[Scorer]) -> list[T]:
    """The same of several side by side: what they ask of one reranker at a time is scored in one call."""
    state = [advance(asking, None) for asking in askings]
    while open_stages := [asked.stage for asked in state if isinstance(asked, Ask)]:
        stage = min(open_stages)
        asks = {i: asked for i, asked in enumerate(state) if isinstance(asked, Ask) and asked.stage == stage}
        scores = scorers[stage].score([pair for asked in asks.values() for pair in asked.pairs])
        ends = np.cumsum([len(asked.pairs) for asked in asks.values()])
        for i, part in zip(asks, np.split(scores, ends[:-1]), strict=True):
            state[i] = advance(askings[i], part)
    return [asked.value for asked in state if isinstance(asked, Made)]
