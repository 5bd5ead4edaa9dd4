"""The metrics, read as Prometheus reads them."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from secondstage.errors import UserError
from secondstage.serve import Answer, Trace
from secondstage.serve.server.drift import Drift
from secondstage.serve.server.metrics import Metrics
from secondstage.serve.server.movement import movement
from secondstage.serve.server.shadow import Difference
from secondstage.serve.server.signals import Batch, Reranked, Searched

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(metrics: Metrics) -> Samples:
    text, content_type = metrics.render()
    assert content_type.startswith("text/plain; version=0.0.4")
    families = [
        found for found in text_string_to_metric_families(text.decode()) if not found.name.startswith("process_")
    ]
    assert all(family.name.startswith("secondstage_") and family.documentation.endswith(".") for family in families)
    return {
        (sample.name.removeprefix("secondstage_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def searched(**changes: Any) -> Searched:
    trace = Trace(
        depth=3,
        milliseconds={"first_stage": 4.0, "rerank": 30.0, "total": 40.0},
        first=["a", "b", "c"],
        final=["c", "a", "b"],
        reranked=["a", "b", "c"],
        scores=[0.5, -1.0, 2.5],
        fell_back=False,
    )._replace(**changes)
    return Searched("id", "query", Answer([], 0.2, False, trace), 7.0, 50.0)


def test_a_search() -> None:
    metrics = Metrics()
    event = searched()
    metrics.searched(event, movement(event.answer.trace.first, event.answer.trace.final))
    found = samples(metrics)
    assert value(found, "requests_total", route="search", status="200") == 1
    times = {"first_stage": 0.004, "rerank": 0.03, "queue": 0.007, "total": 0.05}
    for stage, seconds in times.items():
        assert value(found, "stage_seconds_sum", route="search", stage=stage) == pytest.approx(seconds)
        assert value(found, "stage_seconds_count", route="search", stage=stage) == 1
    assert value(found, "stage_seconds_bucket", route="search", stage="rerank", le="0.02") == 0
    assert value(found, "stage_seconds_bucket", route="search", stage="rerank", le="0.05") == 1
    assert value(found, "reranked_documents_sum", route="search") == 3
    assert value(found, "rank_displacement_ranks_sum") == pytest.approx((2 + 1 + 1) / 3)
    assert value(found, "newcomers_ratio_sum") == 0
    assert value(found, "top1_total", agree="no") == 1
    # A histogram of what may be negative has no sum.
    assert (value(found, "top_logit_bucket", le="2.0"), value(found, "top_logit_bucket", le="3.0")) == (0, 1)
    assert value(found, "unanswerable_total") == 1
    assert value(found, "fallbacks_total") == 0


def test_a_search_that_found_nothing_or_fell_back() -> None:
    metrics = Metrics()
    metrics.searched(searched(depth=0, first=[], final=[], reranked=[], scores=[], fell_back=True), None)
    found = samples(metrics)
    assert value(found, "fallbacks_total") == 1
    assert value(found, "top_logit_count") == value(found, "rank_displacement_ranks_count") == 0


def test_rerank_requests_and_refusals_have_routes_of_their_own() -> None:
    metrics = Metrics()
    metrics.reranked(Reranked("id", "tei", [("q", "d")] * 5, np.zeros(5, np.float32), 60, 1.0, 9.0))
    for status, kind in ((429, "overloaded"), (429, "overloaded"), (504, "expired")):
        metrics.refused("tei", status, kind)
    found = samples(metrics)
    assert value(found, "requests_total", route="tei", status="200") == 1
    assert value(found, "requests_total", route="tei", status="429") == 2
    assert value(found, "refusals_total", route="tei", kind="expired") == 1
    assert value(found, "reranked_documents_sum", route="tei") == 5
    assert value(found, "stage_seconds_sum", route="tei", stage="total") == pytest.approx(0.009)


def test_a_batch() -> None:
    metrics = Metrics()
    metrics.batch(Batch(stage=1, pairs=4, tokens=300, padded=400, capacity=1000, seconds=0.25))
    metrics.batch(Batch(stage=1, pairs=0, tokens=0, padded=0, capacity=1000, seconds=0.0))
    metrics.queue.labels("1").set(77)
    found = samples(metrics)
    assert value(found, "batch_fill_ratio_sum", stage="1") == pytest.approx(0.4)
    assert value(found, "batch_padding_ratio_sum", stage="1") == pytest.approx(0.25)
    assert value(found, "batch_tokens_total", stage="1") == 300
    assert value(found, "batch_seconds_sum", stage="1") == 0.25
    assert value(found, "queue_tokens", stage="1") == 77


def test_drift_is_unknown_until_it_was_looked_for() -> None:
    metrics = Metrics()
    assert value(samples(metrics), "drift_known") == 0
    metrics.drifted(Drift(0.3, 0.1, 0.2, 1e-6), True)
    found = samples(metrics)
    assert value(found, "drift_known") == value(found, "drift_alarm") == 1
    assert value(found, "drift_psi", scores="top") == 0.3
    assert value(found, "drift_psi", scores="candidates") == 0.1
    assert value(found, "drift_ks_p_value") == 1e-6
    metrics.drifted(Drift(0.0, 0.0, 0.0, 0.5), False)
    assert value(samples(metrics), "drift_alarm") == 0


def test_shadow_mode() -> None:
    metrics = Metrics()
    metrics.shadowed(Difference(True, 0.5, 0.9, 1.5, 20.0))
    metrics.shadowed(Difference(False, None, 1.0, 0.0, 20.0))
    found = samples(metrics)
    assert value(found, "shadow_top1_total", agree="yes") == value(found, "shadow_top1_total", agree="no") == 1
    taus = [value(found, "shadow_kendall_tau_bucket", le=le) for le in ("0.4", "0.5", "+Inf")]
    assert taus == [0, 1, 1]
    assert value(found, "shadow_overlap_ratio_sum") == pytest.approx(1.9)
    assert value(found, "shadow_seconds_sum") == pytest.approx(0.04)


def test_two_servers_share_nothing() -> None:
    one, two = Metrics(), Metrics()
    one.searched(searched(), None)
    assert ("requests_total", (("route", "search"), ("status", "200"))) not in samples(two)


def test_without_the_library_there_is_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "prometheus_client":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"pip install 'secondstage\[server\]'"):
        Metrics()
