"""The signals of a server: everything it tells goes to the metrics, the journal, drift and shadow mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from secondstage.config import ServerConfig
from secondstage.progress import say

from ..pipeline import Pipeline
from ..release import read_release
from .drift import DriftWatch
from .journal import Journal
from .metrics import SEARCH, Metrics, said
from .movement import Movement, movement
from .shadow import Candidates, Difference, Shadow, load_shadow
from .signals import Batch, Judged, Reranked, Searched

# Digits of a logit in the journal.
DIGITS = 4


class Observer:
    """`Signals` that are kept.

    Attributes:
        metrics: of this server.
        journal: none where none is written.
        drift: none where the bundle does not say what its scores were.
        shadow: none where there is none.
    """

    def __init__(self, metrics: Metrics, journal: Journal | None = None, drift: DriftWatch | None = None) -> None:
        self.metrics, self.journal, self.drift = metrics, journal, drift
        self.shadow: Shadow | None = None

    @classmethod
    def open(cls, config: ServerConfig, pipeline: Pipeline, bundle: Path) -> Observer:
        """As the settings say.

        Raises:
            UserError: the journal cannot be written to, the shadow cannot be opened, or a library is missing.
        """
        metrics = Metrics()
        model = None
        if config.shadow is not None:
            batch_tokens = config.batch_tokens or pipeline.reranker.batch_tokens
            # As the first one computes: two precisions differ by themselves.
            precision = pipeline.reranker.origin[1] if pipeline.reranker.origin else "auto"
            model = load_shadow(config.shadow, batch_tokens=batch_tokens, precision=precision)
        release = read_release(bundle)
        if release is None:
            say("drift is unknown: the bundle does not say what its scores were (release.json): make it again")
        journal = None
        if config.journal is not None:
            path = Path(config.journal).expanduser()
            count = metrics.count_journal
            journal = Journal(path, queries=config.journal_queries, mib=config.journal_mib, count=count)
        observer = cls(metrics, journal, release and DriftWatch(release, config.drift_window))
        if model is not None:
            observer.shadow = Shadow(model, pipeline.documents, observer.shadowed, metrics.count_shadow)
        return observer

    def searched(self, event: Searched) -> None:
        """A search was answered."""
        trace = event.answer.trace
        # Where the first stage's order was all there was, it says nothing of what the second would have changed.
        moved = None if trace.fell_back else movement(trace.first, trace.final)
        self.metrics.searched(event, moved)
        if self.journal:
            self.journal.write(search_record(event, moved))
        self._compare_with_release(event)
        if self.shadow and trace.scores:
            self.shadow.offer(Candidates(event.request_id, event.query, trace.reranked, trace.scores))

    def _compare_with_release(self, event: Searched) -> None:
        if self.drift is None:
            return
        before, scores = self.drift.alarm, event.answer.trace.scores
        # Release was measured without filters, and the best of fewer documents is worse by nature.
        comparable = not event.filtered and self.drift.takes(scores)
        self.metrics.drift_searches.labels(said(comparable)).inc()
        found = self.drift.add(scores) if comparable else None
        if found is None:
            return
        self.metrics.drifted(found, self.drift.alarm)
        if self.journal:
            self.journal.write({"kind": "drift", "alarm": self.drift.alarm, **found._asdict()})
        if self.drift.alarm != before:
            words = "are distributed otherwise than" if self.drift.alarm else "are again distributed as"
            say(
                f"drift: the top scores of the last {self.drift.window} searches {words} those of dev when the bundle "
                f"was made (p = {found.p_value:.1e}, stability index {found.psi:.2f})"
            )

    def reranked(self, event: Reranked) -> None:
        """A request of a rerank API was answered."""
        self.metrics.reranked(event)
        if self.journal:
            self.journal.write(rerank_record(event))

    def refused(self, request_id: str, api: str, status: int, kind: str) -> None:
        """A request was not answered."""
        self.metrics.refused(api, status, kind)
        if self.journal:
            self.journal.write({"kind": "refused", "id": request_id, "route": api, "status": status, "reason": kind})

    def batch(self, event: Batch) -> None:
        """A batch was scored."""
        self.metrics.batch(event)

    def queued(self, stage: int, tokens: int) -> None:
        """How many tokens wait now to be scored."""
        self.metrics.queue.labels(str(stage)).set(tokens)

    def judged(self, event: Judged) -> None:
        """A judgement or a click was kept, in a file of its own."""
        self.metrics.judged(event)

    def shadowed(self, request_id: str, difference: Difference) -> None:
        """The shadow has scored a search; in its thread."""
        self.metrics.shadowed(difference)
        if self.journal:
            self.journal.write({"kind": "shadow", "id": request_id, **difference._asdict()})

    def render(self) -> tuple[bytes, str]:
        """The metrics as text, and its content type."""
        return self.metrics.render()

    def close(self) -> None:
        """Stop the shadow, write what the journal still has to."""
        if self.shadow:
            self.shadow.close()
        if self.journal:
            self.journal.close()


def search_record(event: Searched, moved: Movement | None) -> dict[str, Any]:
    """What the journal keeps of a search: ids, ranks and scores. Its query becomes a digest unless it may be kept."""
    answer, trace = event.answer, event.answer.trace
    times = {**trace.milliseconds, "queue": event.queue_ms, "total": event.total_ms}
    return {
        "kind": SEARCH,
        "id": event.request_id,
        "route": SEARCH,
        "status": 200,
        "query": event.query,
        "milliseconds": {stage: round(taken, 3) for stage, taken in times.items()},
        "depth": trace.depth,
        "answerable": answer.answerable,
        "confidence": answer.confidence,
        "fell_back": trace.fell_back,
        "first": list(trace.first),
        "final": list(trace.final),
        "shown": [result.doc_id for result in answer.results],
        "reranked": list(trace.reranked),
        "scores": [round(score, DIGITS) for score in trace.scores],
        "movement": moved and moved._asdict(),
    }


def rerank_record(event: Reranked) -> dict[str, Any]:
    """What the journal keeps of a rerank request: its documents are those of the client, and have no ids here."""
    logits = event.logits.tolist()
    return {
        "kind": "rerank",
        "id": event.request_id,
        "route": event.api,
        "status": 200,
        **({"query": event.pairs[0][0]} if event.pairs else {}),
        "milliseconds": {"queue": round(event.queue_ms, 3), "total": round(event.total_ms, 3)},
        "documents": len(event.pairs),
        "tokens": event.tokens,
        "scores": [round(score, DIGITS) for score in logits],
    }
