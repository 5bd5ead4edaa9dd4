"""The signals of a server over HTTP: what is asked of it is what it tells, and the pieces fit together."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from secondstage.serve.feedback.events import read_events
from secondstage.serve.release import Release
from secondstage.serve.server.drift import DriftWatch
from secondstage.serve.server.journal import Journal
from secondstage.serve.server.judgements import Judgements
from secondstage.serve.server.metrics import Metrics
from secondstage.serve.server.observer import Observer
from secondstage.version import __version__

from .serving import asking


def counted(text: str, name: str) -> dict[tuple[str, ...], float]:
    """The samples of a counter, or the counts of a histogram, by the values of its labels in order."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"secondstage_{name}"
    }


def test_requests_over_http(tmp_path: Path) -> None:
    journal, judged = tmp_path / "journal.jsonl", tmp_path / "judgements.jsonl"
    file = Judgements(judged)
    observer = Observer(Metrics(), Journal(journal))
    with asking(signals=observer, keep=file.add, max_documents=3) as client:
        found = client.post("/search", json={"query": "bread", "top_n": 2}).json()
        click = {"id": found["id"], "query": "bread", "doc_id": "b", "relevance": 1, "kind": "click"}
        assert client.post("/judgements", json=click).status_code == 204
        empty = client.post("/search", json={"query": " "})
        assert empty.status_code >= 400
        assert client.post("/rerank", json={"query": "bread", "documents": ["bread", "water"]}).status_code == 200
        assert client.post("/rerank", json={"query": "bread", "documents": ["x"] * 4}).status_code >= 400
        text = client.get("/metrics").text
    file.close()
    requests = counted(text, "requests_total")
    (rerank,) = {route for route, _ in requests} - {"search", "judgements"}
    assert {key: number for key, number in requests.items() if key[1] in ("200", "204")} == {
        ("search", "200"): 1,
        ("judgements", "204"): 1,
        (rerank, "200"): 1,
    }
    assert counted(text, "refusals_total") == {("empty", "search"): 1, ("too_many", rerank): 1}
    assert counted(text, "batch_pairs_total") == {("0",): 5}
    assert counted(text, "batch_fill_ratio_count")[("0",)] >= 1
    assert counted(text, "stage_seconds_count")["search", "queue"] == 1
    assert counted(text, "top1_total") == {("yes",): 0, ("no",): 1}
    records: list[dict[str, Any]] = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [record["kind"] for record in records] == ["opened", "search", "refused", "rerank", "refused"]
    assert found["id"] == records[1]["id"]
    assert empty.headers["X-Request-Id"] == records[2]["id"] != found["id"]
    assert "bread" not in journal.read_text()
    # What was clicked can be told from what was passed over.
    events = read_events([judged, journal])
    assert events.shown == {found["id"]: ["b", "a"]}
    (said,) = events.said
    assert (said.search_id, said.kind, said.doc_id) == (found["id"], "click", "b")


def test_what_is_served_and_what_drift_can_see() -> None:
    """The three documents are reranked: a release of that depth is compared with, one of another is not."""
    for depth, comparable in ((3, "yes"), (4, "no")):
        metrics = Metrics()
        metrics.describe("secondstage-abc", "openvino")
        watch = DriftWatch(Release(depth, 2, (0.0, 1.0), (0.0, 1.0)), 2)
        with asking(signals=Observer(metrics, None, watch)) as client:
            for options in ({}, {"where": {"year": 1}}, {}):
                assert client.post("/search", json={"query": "bread", **options}).status_code == 200
            text = client.get("/metrics").text
        searches = counted(text, "drift_searches_total")
        assert searches[comparable,] == (2 if comparable == "yes" else 3)
        assert sum(searches.values()) == 3
        assert counted(text, "drift_known")[()] == (comparable == "yes")
        assert counted(text, "served") == {("secondstage-abc", "openvino", __version__): 1}
        # It reads /proc.
        assert ("process_resident_memory_bytes" in text) == (sys.platform == "linux")
