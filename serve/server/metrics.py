"""What `/metrics` says, in a registry of its own."""

from __future__ import annotations

from secondstage.errors import UserError
from secondstage.version import __version__

from .drift import Drift
from .movement import Movement
from .shadow import Difference
from .signals import Batch, Judged, Reranked, Searched

SEARCH = "search"
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
SHARES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1)
DEPTHS = (1, 5, 10, 20, 30, 50, 75, 100, 150, 200, 500, 1000)
RANKS = (0, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100)
LOGITS = (-10, -8, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 8, 10)
AGREE = ("yes", "no")
CORRELATIONS = (-0.5, 0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)


class Metrics:
    """The metrics of one server. Counting is safe in any thread."""

    def __init__(self) -> None:
        """Make them, all without a value.

        Raises:
            UserError: `prometheus_client` is not installed.
        """
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
        except ImportError:
            raise UserError("/metrics needs prometheus_client: pip install 'secondstage[server]'") from None
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"secondstage_{name}", words, labels, registry=self.registry)

        def gauge(name: str, words: str, *labels: str) -> Gauge:
            return Gauge(f"secondstage_{name}", words, labels, registry=self.registry)

        def histogram(name: str, words: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"secondstage_{name}", words, labels, buckets=buckets, registry=self.registry)

        self.served = gauge("served", "1 with what is served as its labels.", "bundle", "version", "engine")
        self.requests = counter("requests", "Requests by route and HTTP status.", "route", "status")
        self.refusals = counter("refusals", "Requests that were not answered, by reason.", "route", "kind")
        self.stages = histogram("stage_seconds", "Time of answered requests by stage.", SECONDS, "route", "stage")
        self.queue = gauge("queue_tokens", "Tokens that wait to be scored.", "stage")
        self.batch_seconds = histogram("batch_seconds", "Time of scoring a batch.", SECONDS, "stage")
        self.batch_pairs = counter("batch_pairs", "Pairs scored.", "stage")
        self.batch_tokens = counter("batch_tokens", "Tokens scored, without padding.", "stage")
        self.fill = histogram("batch_fill_ratio", "Tokens of a batch, padded, by its budget.", SHARES, "stage")
        self.padding = histogram("batch_padding_ratio", "Padding in a batch.", SHARES, "stage")
        self.documents = histogram("reranked_documents", "Documents reranked for a request.", DEPTHS, "route")
        self.moved = histogram(
            "rank_displacement_ranks", "Mean ranks by which the top 10 moved from the first stage's order.", RANKS
        )
        self.newcomers = histogram(
            "newcomers_ratio", "Share of the top 10 that was not in the first stage's top 10.", SHARES
        )
        self.top1 = counter("top1", "Searches by whether both stages agree on the first document.", "agree")
        self.top_logit = histogram("top_logit", "The highest logit of a search.", LOGITS)
        self.unanswerable = counter("unanswerable", "Searches below the answerability threshold.")
        self.fallbacks = counter("fallbacks", "Searches answered in an order that the reranker had no part in.")
        self.judgements = counter("judgements", "Judgements and clicks that were kept.", "kind")
        self.journal = counter("journal_lines", "Lines of the journal: written, dropped, failed.", "outcome")
        self.drift_searches = counter(
            "drift_searches", "Searches by whether they can be compared with the release.", "comparable"
        )
        self.drift_known = gauge("drift_known", "1 once scores were compared with those at release.")
        self.drift_alarm = gauge("drift_alarm", "1 while scores are distributed otherwise than at release.")
        self.drift_psi = gauge("drift_psi", "Population stability index against the release.", "scores")
        self.drift_distance = gauge("drift_ks_distance", "Kolmogorov-Smirnov distance of the top scores.")
        self.drift_p_value = gauge("drift_ks_p_value", "Its p-value.")
        self.shadow = counter("shadow_searches", "Shadow mode: compared, dropped, failed.", "outcome")
        self.shadow_top1 = counter("shadow_top1", "Shadow mode: agreement on the first document.", "agree")
        self.shadow_tau = histogram("shadow_kendall_tau", "Shadow mode: correlation of the orders.", CORRELATIONS)
        self.shadow_overlap = histogram("shadow_overlap_ratio", "Shadow mode: discounted overlap at 10.", SHARES)
        self.shadow_moved = histogram("shadow_displacement_ranks", "Shadow mode: mean ranks moved at 10.", RANKS)
        self.shadow_seconds = histogram("shadow_seconds", "Shadow mode: time of scoring a search.", SECONDS)
        # What is known to come is there from the start, as 0: a rate needs a value before the first event.
        for metric, values in (
            (self.top1, AGREE),
            (self.shadow_top1, AGREE),
            (self.drift_searches, AGREE),
            (self.journal, ("written", "dropped", "failed")),
            (self.shadow, ("compared", "dropped", "failed")),
        ):
            for value in values:
                metric.labels(value)

    def describe(self, bundle: str, engine: str) -> None:
        """Say what is served, once it is known."""
        self.served.labels(bundle, __version__, engine).set(1)

    def searched(self, event: Searched, moved: Movement | None) -> None:
        """A search was answered."""
        trace = event.answer.trace
        times = {**trace.milliseconds, "queue": event.queue_ms, "total": event.total_ms}
        self._answered(SEARCH, times, trace.depth)
        if moved:
            self.moved.observe(moved.displacement)
            self.newcomers.observe(moved.newcomers)
            self.top1.labels(agree=said(moved.top1)).inc()
        if len(trace.scores):
            self.top_logit.observe(max(trace.scores))
        self.unanswerable.inc(not event.answer.answerable)
        self.fallbacks.inc(trace.fell_back)

    def reranked(self, event: Reranked) -> None:
        """A request of a rerank API was answered."""
        self._answered(event.api, {"queue": event.queue_ms, "total": event.total_ms}, len(event.pairs))

    def _answered(self, route: str, milliseconds: dict[str, float], documents: int) -> None:
        self.requests.labels(route, "200").inc()
        self.documents.labels(route).observe(documents)
        for stage, taken in milliseconds.items():
            self.stages.labels(route, stage).observe(taken / 1000)

    def refused(self, route: str, status: int, kind: str) -> None:
        """A request was not answered."""
        self.requests.labels(route, str(status)).inc()
        self.refusals.labels(route, kind).inc()

    def judged(self, event: Judged) -> None:
        """A judgement or a click was kept."""
        self.requests.labels("judgements", "204").inc()
        self.judgements.labels(event.kind).inc()

    def batch(self, event: Batch) -> None:
        """A batch was scored."""
        stage = str(event.stage)
        self.batch_seconds.labels(stage).observe(event.seconds)
        self.batch_pairs.labels(stage).inc(event.pairs)
        self.batch_tokens.labels(stage).inc(event.tokens)
        self.fill.labels(stage).observe(event.padded / event.capacity)
        self.padding.labels(stage).observe(1 - event.tokens / event.padded if event.padded else 0)

    def count_journal(self, outcome: str) -> None:
        """A line of the journal was written, dropped, or failed."""
        self.journal.labels(outcome).inc()

    def count_shadow(self, outcome: str) -> None:
        """A search was compared by the shadow, dropped, or failed."""
        self.shadow.labels(outcome).inc()

    def drifted(self, drift: Drift, alarm: bool) -> None:
        """A window was compared with the release."""
        self.drift_known.set(1)
        self.drift_alarm.set(alarm)
        self.drift_psi.labels("top").set(drift.psi)
        self.drift_psi.labels("candidates").set(drift.candidates_psi)
        self.drift_distance.set(drift.distance)
        self.drift_p_value.set(drift.p_value)

    def shadowed(self, difference: Difference) -> None:
        """A second reranker scored the candidates of a search."""
        self.shadow_top1.labels(agree=said(difference.top1)).inc()
        self.shadow_overlap.observe(difference.overlap)
        self.shadow_moved.observe(difference.displacement)
        self.shadow_seconds.observe(difference.milliseconds / 1000)
        if difference.tau is not None:
            self.shadow_tau.observe(difference.tau)

    def render(self) -> tuple[bytes, str]:
        """The text that Prometheus reads, and its content type."""
        from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4


def said(value: bool) -> str:
    """As the value of a label."""
    return "yes" if value else "no"
