"""The proof as text."""

from __future__ import annotations

from typing import Any

import pytest

from secondstage.table import render


def comparison(low: float, high: float, **changes: object) -> dict[str, Any]:
    found = {"delta": (low + high) / 2, "ci95": [low, high], "p": 0.0123, "wins": 7, "ties": 2, "losses": 1}
    return {"nDCG@10": found | changes, "RR@10": found}


def metrics(split: str = "test", **comparisons: object) -> dict[str, Any]:
    return {
        "split": split,
        "queries": 10,
        "depth": 50,
        "systems": {
            "pipeline": {"nDCG@10": 0.51234, "RR@10": 0.6},
            "first_stage": {"nDCG@10": 0.4, "RR@10": 0.45},
            "bm25": {"nDCG@10": 0.3, "RR@10": 0.35},
            "reranked": {"nDCG@10": 0.45, "RR@10": 1.0},
        },
        "ceiling": {"recall": 0.9, "oracle_nDCG@10": 0.87654},
        "comparisons": comparisons or {"pipeline_vs_first_stage": comparison(0.01, 0.03)},
    }


def test_the_whole_table() -> None:
    assert render(metrics()).splitlines() == [
        "test: 10 queries, 50 candidates each",
        "                nDCG@10    RR@10",
        "  bm25           0.3000   0.3500",
        "  first stage    0.4000   0.4500",
        "  reranked       0.4500   1.0000",
        "  pipeline       0.5123   0.6000",
        "  a perfect reranker of these candidates would reach nDCG@10 0.8765",
        "  pipeline is better than first stage: nDCG@10 +0.0200 (95 % interval +0.0100 to +0.0300, p = 0.0123; "
        "7 wins, 2 ties, 1 losses)",
    ]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.03, "better than"),
        (1e-9, 0.03, "better than"),
        (0.0, 0.03, "not proven different from"),
        (-0.01, 0.03, "not proven different from"),
        (0.0, 0.0, "not proven different from"),
        (-0.03, 0.0, "not proven different from"),
        (-0.03, -1e-9, "worse than"),
        (-0.03, -0.01, "worse than"),
    ],
)
def test_the_verdict_follows_the_interval(low: float, high: float, verdict: str) -> None:
    text = render(metrics(pipeline_vs_first_stage=comparison(low, high)))
    assert f"pipeline is {verdict} first stage: nDCG@10 {(low + high) / 2:+.4f} " in text
    assert sum(words in text for words in ("better than", "worse than", "not proven")) == 1


def test_the_pipeline_is_compared_with_every_baseline_and_others_are_left_to_the_file() -> None:
    text = render(
        metrics(
            reranked_vs_first_stage=comparison(0.5, 0.6),
            pipeline_vs_first_stage=comparison(0.01, 0.03),
            pipeline_vs_bm25=comparison(-0.2, -0.1),
        )
    )
    sentences = [line.strip() for line in text.splitlines() if " interval " in line]
    assert [sentence.partition(":")[0] for sentence in sentences] == [
        "pipeline is better than first stage",
        "pipeline is worse than bm25",
    ]


def test_the_confidence_is_that_of_the_figures() -> None:
    found = comparison(0.01, 0.03)
    found["nDCG@10"]["ci99"] = found["nDCG@10"].pop("ci95")
    assert "(99 % interval +0.0100 to +0.0300" in render(metrics(pipeline_vs_first_stage=found))


def test_extra_splits_and_seconds_follow() -> None:
    extra = metrics("human", pipeline_vs_first_stage=comparison(-0.1, 0.1))
    whole = metrics() | {"extra_splits": {"human": extra}, "seconds": {"mine": 3.4, "train": 240.6}}
    first, second, seconds = render(whole).split("\n\n")
    assert first == render(metrics())
    assert second == render(extra)
    assert second.startswith("human: 10 queries")
    assert seconds == "seconds: mine 3, train 241"
