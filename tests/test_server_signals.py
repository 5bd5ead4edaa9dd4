"""The signals of a server over HTTP: what is asked of it is what it tells, and the pieces fit together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from secondstage.serve.feedback.events import read_events
from secondstage.serve.server.journal import Journal
from secondstage.serve.server.judgements import Judgements
from secondstage.serve.server.metrics import Metrics
from secondstage.serve.server.observer import Observer

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
        assert client.post("/search", json={"query": " "}).status_code >= 400
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
    assert "bread" not in journal.read_text()
    # What was clicked can be told from what was passed over.
    events = read_events([judged, journal])
    assert events.shown == {found["id"]: ["b", "a"]}
    (said,) = events.said
    assert (said.search_id, said.kind, said.doc_id) == (found["id"], "click", "b")
