"""The proof as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from secondstage.files import read_json
from secondstage.table import columns, gain_kept, render, sentence

SYSTEMS = {"pipeline": 0.51234, "first_stage": 0.4, "identity": 0.4, "bm25": 0.3, "oracle": 0.87654}


def row(low: float | None, high: float | None, **changes: object) -> dict[str, Any]:
    """A comparison of the pipeline with the first stage; half of the two bounds is the difference."""
    found = {"system": "pipeline", "baseline": "first_stage", "measure": "nDCG@10", "queries": 10, "low": low}
    figures = {"delta": ((low or 0) + (high or 0)) / 2, "high": high, "p": 0.009, "p_holm": 0.0123}
    return found | figures | {"wins": 7, "ties": 2, "losses": 1, "sd": 0.1, "detectable": 0.0876} | changes


def a_set(**changes: object) -> dict[str, Any]:
    """A test set without leaks, failures or notes."""
    measures = ("RR@10", "R@10", "Success@1", "Judged@10", "AP@50", "R@50")
    systems: dict[str, Any] = {
        name: {"queries": 10, "measures": {"nDCG@10": value, **dict.fromkeys(measures, value / 2)}}
        for name, value in SYSTEMS.items()
    }
    return {
        "split": "test",
        "origin": "human",
        "queries": 10,
        "notes": [],
        "systems": systems,
        "comparisons": [row(0.01, 0.03), row(0.04, 0.05, measure="RR@10")],
        "leakage": {
            "against": ["train", "dev"],
            "counts": {"same_text": 0, "near_duplicate": 0, "document": 0, "any": 0},
            "free": None,
        },
        "diagnosis": None,
        **changes,
    }


def metrics(*sets: Mapping[str, Any], **changes: object) -> dict[str, Any]:
    return {
        "verdict": {"passed": True, "sentence": "Ship: it is better.", "checks": []},
        "confidence": 0.95,
        "depth": 50,
        "latency": {"queries": 30, "first_stage_p50_ms": 1.6, "p50_ms": 20.4, "p95_ms": 39.5},
        "test_sets": {found["split"]: found for found in sets or [a_set()]},
        "seconds": {"mine": 3.4, "train": 240.6},
        **changes,
    }


def told(*changes: Mapping[str, Any], **of_test_set: object) -> list[str]:
    """What is said of a test set, below its systems."""
    lines = render(metrics(a_set(**of_test_set), *changes)).split("\n\n")[1].splitlines()
    return [line.strip() for line in lines[2 + len(SYSTEMS) - 1 :]]


def test_the_whole_of_it() -> None:
    assert render(metrics()).splitlines() == [
        "Ship: it is better.",
        "",
        "test: 10 queries (human), 50 candidates each",
        "                nDCG@10    RR@10     R@10  Success@1  Judged@10     R@50",
        "  bm25           0.3000   0.1500   0.1500     0.1500     0.1500   0.1500",
        "  first stage    0.4000   0.2000   0.2000     0.2000     0.2000   0.2000",
        "  pipeline       0.5123   0.2562   0.2562     0.2562     0.2562   0.2562",
        "  oracle         0.8765   0.4383   0.4383     0.4383     0.4383   0.4383",
        "  pipeline is better than first stage: nDCG@10 +0.0200 (95 % interval +0.0100 to +0.0300, p = 0.0123; "
        "7 wins, 2 ties, 1 losses)",
        "",
        "a search takes 20 ms (95 %: 40 ms) at depth 50, the first stage alone 2 ms",
        "",
        "seconds: mine 3, train 241",
    ]


def test_what_a_run_found_is_rendered(run_folder: Path) -> None:
    found = read_json(run_folder / "evaluation" / "metrics.json")
    text = render(found)
    assert text.startswith(found["verdict"]["sentence"])
    for name, measured in found["test_sets"]["test"]["systems"].items():
        if name not in ("identity", "first_stage"):
            (line,) = [line for line in text.splitlines() if line.split()[:1] == [name] and " is " not in line]
            assert line.split()[1] == f"{measured['measures']['nDCG@10']:.4f}"


@pytest.mark.parametrize(
    ("low", "high", "p", "verdict"),
    [
        (0.01, 0.03, 0.04, "better than"),
        (0.01, 0.03, 0.051, "not proven different from"),
        (-0.01, 0.03, 0.9, "not proven different from"),
        (-0.03, -0.01, 0.051, "not proven different from"),
        (-0.03, -0.01, 0.049, "worse than"),
    ],
)
def test_the_words_follow_the_adjusted_test(low: float, high: float, p: float, verdict: str) -> None:
    text = sentence(row(low, high, p_holm=p), 0.95)
    assert text.startswith(f"pipeline is {verdict} first stage: nDCG@10 {(low + high) / 2:+.4f} (95 % interval ")
    # What so few queries could not have shown is told where nothing is shown.
    assert text.endswith("; 10 queries detect 0.0876") == (verdict == "not proven different from")


def test_equality_on_every_query_is_told_as_such() -> None:
    assert (
        sentence(row(0.0, 0.0, wins=0, ties=10, losses=0), 0.95)
        == "pipeline is exactly as good as first stage on every query"
    )
    assert "not proven different from" in sentence(
        row(-0.1, 0.1, wins=1, ties=8, losses=1, delta=0.0, p_holm=1.0), 0.95
    )


def test_one_query_has_no_interval() -> None:
    found = row(None, None, queries=1, delta=0.5, sd=None, detectable=None)
    assert sentence(found, 0.95) == "pipeline against first stage: nDCG@10 +0.5000 on one query: nothing is shown"


@pytest.mark.parametrize(("confidence", "share"), [(0.99, "99"), (0.9, "90"), (0.995, "99.5")])
def test_the_confidence_is_that_of_the_figures(confidence: float, share: str) -> None:
    assert f"({share} % interval +0.0100 to +0.0300" in render(metrics(confidence=confidence))


def test_comparisons_are_told_in_their_order_in_the_primary_measure() -> None:
    rows = [row(0.5, 0.6, system="reranked"), row(0.01, 0.03), row(-0.2, -0.1, baseline="bm25")]
    assert [line.partition(":")[0] for line in told(comparisons=rows)] == [
        "reranked is better than first stage",
        "pipeline is better than first stage",
        "pipeline is worse than bm25",
    ]


@pytest.mark.parametrize(
    ("low", "high", "doubted"), [(-0.3, -0.2, False), (-0.3, 0.0, True), (-0.1, 0.1, True), (None, None, True)]
)
def test_a_random_order_is_told_of_where_it_cannot_be_told_apart(
    low: float | None, high: float | None, doubted: bool
) -> None:
    lines = told(comparisons=[row(low, high, system="random")])
    doubt = "a random order is not proven worse than the first stage: this test set cannot tell systems apart"
    assert lines == ([doubt] if doubted else [])


def test_systems_of_a_sample_are_marked() -> None:
    found = a_set()
    found["systems"]["bm25"]["queries"] = 4
    found["systems"]["oracle"]["queries"] = 9
    assert "  on a sample: bm25 4 queries, oracle 9 queries" in render(metrics(found)).splitlines()
    assert "on a sample" not in render(metrics())


def test_a_measure_that_a_system_lacks_is_no_column() -> None:
    found = a_set()
    del found["systems"]["bm25"]["measures"]["Success@1"]
    header = render(metrics(found)).splitlines()[3]
    assert header.split() == ["nDCG@10", "RR@10", "R@10", "Judged@10", "R@50"]


@pytest.mark.parametrize("depth", [3, 5, 10, 200])
def test_recall_is_told_at_the_depth_and_once(depth: int) -> None:
    found = a_set()
    for system in found["systems"].values():
        system["measures"] = {"nDCG@10": 0.1, "RR@10": 0.1, f"AP@{depth}": 0.1, f"R@{depth}": 0.1}
    lines = render(metrics(found)).splitlines()
    assert lines[2] == f"test: 10 queries (human), {depth} candidates each"
    assert lines[3].split() == ["nDCG@10", "RR@10", f"R@{depth}"]


def test_notes_are_told() -> None:
    assert told(notes=["one note", "another"])[:2] == ["one note", "another"]


def test_leaks_are_counted_and_the_rest_is_judged_apart() -> None:
    counts = {"same_text": 1, "near_duplicate": 2, "document": 3, "any": 4}
    free = {
        key: value
        for key, value in row(-0.01, 0.05, queries=6, p_holm=0.3).items()
        if key not in ("system", "baseline")
    }
    leakage = {"against": ["train", "dev"], "counts": counts, "free": free | {"first_stage": 0.1, "pipeline": 0.2}}
    assert told(leakage=leakage)[1:] == [
        "leaks: of 10 queries, 1 have the text of a query in train or dev, 2 nearly so, 3 share a relevant document",
        "on the 6 without a leak: pipeline is not proven different from first stage: nDCG@10 +0.0200 "
        "(95 % interval -0.0100 to +0.0500, p = 0.3000; 7 wins, 2 ties, 1 losses); 6 queries detect 0.0876",
    ]
    assert told(leakage=leakage | {"free": None})[2] == "no query is free of leaks"


def test_causes_of_failure_are_counted() -> None:
    counts = {"first_stage_miss": 2, "truncated": 0, "unjudged": 0, "reranker_error": 1}
    found = {"cutoff": 10, "queries": 10, "failed": 3, "counts": counts}
    assert told(diagnosis=found)[-1] == (
        "3 queries without a relevant document in the top 10: first stage miss 2, reranker error 1"
    )
    assert len(told(diagnosis=found | {"failed": 0})) == len(told(diagnosis=None)) == 1


def test_further_test_sets_follow_in_their_order() -> None:
    other = a_set(split="human", comparisons=[row(-0.1, -0.05)])
    blocks = render(metrics(a_set(), other)).split("\n\n")
    assert [block.partition(":")[0] for block in blocks[1:3]] == ["test", "human"]
    assert blocks[1] == render(metrics()).split("\n\n")[1]
    assert "pipeline is worse than" in blocks[2]
    assert blocks[1:3] == [render(metrics(found)).split("\n\n")[1] for found in (a_set(), other)]


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    rows = {"a very long name of a system": {"m": 0.5, "a long measure": 1.0}, "b": {"m": 0.25, "a long measure": 0.0}}
    lines = columns(rows, ["m", "a long measure"])
    assert len({len(line) for line in lines}) == 1
    assert [line.split() for line in lines[1:]] == [
        ["b", "0.2500", "0.0000"],
        ["a", "very", "long", "name", "of", "a", "system", "0.5000", "1.0000"],
    ]


def test_what_a_student_keeps_is_told() -> None:
    kept = {"queries": 200, "first_stage": 0.5, "teacher": 0.6, "reranked": 0.598, "share": 0.98}
    (line,) = gain_kept(kept)
    assert line == (
        "  reranked keeps 98.0 % of the teacher's gain over the first stage: +0.0980 of +0.1000 nDCG@10 on 200 queries"
    )
    assert line in render(metrics(a_set(gain_kept=kept))).splitlines()
    (nothing,) = gain_kept({**kept, "teacher": 0.5, "share": None})
    assert "the teacher gains nothing over the first stage here" in nothing
    assert gain_kept(None) == []
    assert "the teacher" not in render(metrics(a_set(gain_kept=None)))
