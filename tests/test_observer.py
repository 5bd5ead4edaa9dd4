"""The signals of a real pipeline, from the search to metrics, journal, drift and shadow."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage.config import ServerConfig
from secondstage.serve import Pipeline
from secondstage.serve.server.observer import Observer
from secondstage.serve.server.signals import Batch, Judged, Reranked, Searched, Signals

QUERY = "oven of the bread"


def config(**settings: Any) -> ServerConfig:
    return ServerConfig.from_json(settings)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def metric(observer: Observer, name: str) -> str:
    """The value of a sample, by its name and labels as they are written."""
    text = observer.render()[0].decode()
    (found,) = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"secondstage_{name} ")]
    return found


def wait(condition: Callable[[], bool]) -> None:
    """Until it holds."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def pipeline(run_folder: Path) -> Pipeline:
    return Pipeline.load(run_folder / "bundle")


def test_everything_at_once(run_folder: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    bundle = run_folder / "bundle"
    journal = tmp_path / "logs" / "journal.jsonl"
    observer = Observer.open(config(journal=str(journal), shadow=str(bundle)), pipeline, bundle)
    signals: Signals = observer
    answer = pipeline.answer(QUERY, 5)
    signals.searched(Searched("r1", QUERY, answer, 1.25, 20.0))
    signals.reranked(Reranked("r2", "tei", [(QUERY, "secret text")], np.array([1.23456], np.float32), 9, 0.0, 3.0))
    signals.refused("r3", "tei", 429, "overloaded")
    signals.batch(Batch(0, 20, 300, 320, 1024, 0.01))
    signals.queued(0, 12)
    signals.judged(Judged("r1", QUERY, "bread-2", 3, "judgement"))
    wait(lambda: metric(observer, 'shadow_searches_total{outcome="compared"}') == "1.0")
    signals.close()
    opened, search, rerank, refused, shadow = lines(journal)
    assert opened["kind"] == "opened"
    trace = answer.trace
    assert (search["id"], search["route"], search["status"], search["depth"]) == ("r1", "search", 200, 20)
    assert (search["first"], search["final"]) == (trace.first, trace.final)
    assert search["shown"] == [result.doc_id for result in answer.results]
    assert search["scores"] == pytest.approx(trace.scores, abs=1e-4)
    assert search["milliseconds"].keys() == {"first_stage", "rerank", "queue", "total"}
    assert (search["milliseconds"]["queue"], search["milliseconds"]["total"]) == (1.25, 20.0)
    assert search["movement"]["top1"] is (trace.first[0] == trace.final[0])
    assert (rerank["route"], rerank["documents"], rerank["scores"]) == ("tei", 1, [1.2346])
    assert rerank["query"] == search["query"] != QUERY
    assert refused == {**refused, "route": "tei", "status": 429, "reason": "overloaded"}
    # The shadow is the same model.
    assert (shadow["id"], shadow["top1"], shadow["tau"]) == ("r1", True, pytest.approx(1))
    assert "bread" not in search["query"]
    assert "secret" not in journal.read_text()
    assert metric(observer, 'journal_lines_total{outcome="written"}') == "4.0"
    assert metric(observer, 'judgements_total{kind="judgement"}') == "1.0"
    assert metric(observer, 'queue_tokens{stage="0"}') == "12.0"


def test_without_settings_nothing_is_written(run_folder: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    observer = Observer.open(config(), pipeline, run_folder / "bundle")
    assert (observer.journal, observer.shadow) == (None, None)
    observer.searched(Searched("r1", QUERY, pipeline.answer(QUERY), 0.0, 20.0))
    observer.close()
    assert metric(observer, 'requests_total{route="search",status="200"}') == "1.0"
    assert list(tmp_path.iterdir()) == []


def test_drift_is_said_once_each_way(
    run_folder: Path, pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = tmp_path / "journal.jsonl"
    observer = Observer.open(config(drift_window=100, journal=str(journal)), pipeline, run_folder / "bundle")
    answer = pipeline.answer(QUERY)
    drift = observer.drift
    assert drift is not None
    rng = np.random.default_rng(0)
    for shift in (0.0, 5.0, 0.0):
        for _ in range(200):
            top = float(rng.choice(drift.release.top)) + shift
            scores = [top, *[top - 1] * (drift.release.depth - 1)]
            observer.searched(
                Searched("r", QUERY, answer._replace(trace=answer.trace._replace(scores=scores)), 0.0, 1.0)
            )
    said = capsys.readouterr().err
    assert said.count("are distributed otherwise than") == 1
    assert said.count("are again distributed as") == 1
    assert metric(observer, "drift_alarm") == "0.0"
    assert metric(observer, "drift_known") == "1.0"
    observer.close()
    compared = [line for line in lines(journal) if line["kind"] == "drift"]
    assert {line["alarm"] for line in compared} == {False, True}
    assert max(line["psi"] for line in compared) > 1 > compared[0]["psi"]


def test_a_search_in_the_first_stages_order_says_nothing_of_the_second(
    run_folder: Path, pipeline: Pipeline, tmp_path: Path
) -> None:
    observer = Observer.open(config(), pipeline, run_folder / "bundle")
    answer = pipeline.answer(QUERY)
    for fell_back in (True, False):
        trace = answer.trace._replace(fell_back=fell_back)
        observer.searched(Searched("r", QUERY, answer._replace(trace=trace), 0.0, 1.0))
    agreed = [float(metric(observer, f'top1_total{{agree="{agree}"}}')) for agree in ("yes", "no")]
    assert sum(agreed) == float(metric(observer, "rank_displacement_ranks_count")) == 1
    assert metric(observer, "fallbacks_total") == "1.0"


def test_filtered_searches_are_no_drift(run_folder: Path, pipeline: Pipeline) -> None:
    """The best of fewer documents is worse by nature."""
    observer = Observer.open(config(drift_window=100), pipeline, run_folder / "bundle")
    answer, drift = pipeline.answer(QUERY), observer.drift
    assert drift is not None
    for filtered, alarm in ((True, "0.0"), (False, "1.0")):
        for _ in range(200):
            trace = answer.trace._replace(scores=[min(drift.release.top) - 5.0] * drift.release.depth)
            observer.searched(Searched("r", QUERY, answer._replace(trace=trace), 0.0, 1.0, filtered=filtered))
        assert metric(observer, "drift_alarm") == alarm


def test_an_old_bundle_is_served_and_its_drift_unknown(
    run_folder: Path, pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "bundle"
    shutil.copytree(run_folder / "bundle", old)
    (old / "release.json").unlink()
    observer = Observer.open(config(), pipeline, old)
    assert "drift is unknown" in capsys.readouterr().err
    observer.searched(Searched("r", QUERY, pipeline.answer(QUERY), 0.0, 1.0))
    assert metric(observer, "drift_known") == "0.0"
