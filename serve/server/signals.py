"""What the server tells of its work: the hooks that metrics, the journal, drift and shadow mode hang on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from secondstage.run import Scores

from ..answer import Answer


class Searched(NamedTuple):
    """A search that was answered.

    Attributes:
        request_id: as its answer says.
        query: its text.
        answer: what was found, with its trace.
        queue_ms: that its pairs waited before the first was scored.
        total_ms: from the request's arrival to its answer.
        filtered: whether it asked for some documents only.
    """

    request_id: str
    query: str
    answer: Answer
    queue_ms: float
    total_ms: float
    filtered: bool = False


class Reranked(NamedTuple):
    """A request of a rerank API that was answered.

    Attributes:
        request_id: as its answer says.
        api: whose convention it spoke: cohere, rerank, score, tei, infinity.
        pairs: `[n]` (query, document) texts, in the order in which they were sent.
        logits: `[n]` of the pairs.
        tokens: of all pairs, without padding.
        queue_ms: that its pairs waited before the first was scored.
        total_ms: from the request's arrival to its answer.
    """

    request_id: str
    api: str
    pairs: Sequence[tuple[str, str]]
    logits: Scores
    tokens: int
    queue_ms: float
    total_ms: float


class Batch(NamedTuple):
    """A batch that was scored.

    Attributes:
        stage: of the cascade, from 0.
        pairs: in it.
        tokens: of them, without padding.
        padded: the same with padding: pairs times the longest.
        capacity: the token budget of a batch.
        seconds: that it took.
    """

    stage: int
    pairs: int
    tokens: int
    padded: int
    capacity: int
    seconds: float


class Judged(NamedTuple):
    """A judgement or a click that was kept."""

    search_id: str | None
    query: str
    doc_id: str
    relevance: int
    kind: str


class Signals(Protocol):
    """Is told of everything, in the event loop's thread: what takes long belongs in a thread of its own.

    A hook that raises is logged, and no request fails for it.
    """

    def searched(self, event: Searched) -> None:
        """A search was answered."""
        ...

    def reranked(self, event: Reranked) -> None:
        """A request of a rerank API was answered."""
        ...

    def refused(self, request_id: str, api: str, status: int, kind: str) -> None:
        """A request was not answered: what kind of refusal it was, e.g. overloaded, expired, invalid, gone, broken."""
        ...

    def batch(self, event: Batch) -> None:
        """A batch was scored."""
        ...

    def queued(self, stage: int, tokens: int) -> None:
        """How many tokens wait now to be scored."""
        ...

    def judged(self, event: Judged) -> None:
        """A judgement or a click was kept."""
        ...

    def render(self) -> tuple[bytes, str]:
        """The metrics as text, and its content type."""
        ...

    def close(self) -> None:
        """The server has stopped: write what is left."""
        ...


class Silent:
    """Tells nobody."""

    def searched(self, event: Searched) -> None:
        """Nothing."""

    def reranked(self, event: Reranked) -> None:
        """Nothing."""

    def refused(self, request_id: str, api: str, status: int, kind: str) -> None:
        """Nothing."""

    def batch(self, event: Batch) -> None:
        """Nothing."""

    def queued(self, stage: int, tokens: int) -> None:
        """Nothing."""

    def judged(self, event: Judged) -> None:
        """Nothing."""

    def render(self) -> tuple[bytes, str]:
        """No metric."""
        return b"", "text/plain; version=0.0.4; charset=utf-8"

    def close(self) -> None:
        """Nothing."""
