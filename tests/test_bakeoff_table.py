"""A bake-off as text."""

from __future__ import annotations

from typing import Any

import pytest

from secondstage.bakeoff.page import render_page
from secondstage.bakeoff.table import budget_in_words, by_mean, render


def row(mean: float, delta: float | None, *, low: float | None = 0.01) -> dict[str, Any]:
    difference = None
    if delta is not None:
        difference = {"system": "x", "baseline": "base", "measure": "nDCG@10", "delta": delta, "low": low, "high": low}
        difference |= {"p_holm": 0.03, "wins": 5, "ties": 1, "losses": 2, "queries": 8, "detectable": 0.02}
        difference |= {"high": None if low is None else low + 0.1}
    spread = {"sd": None, "by_seed": [mean]}
    systems = {"reranked": {"mean": mean / 2, **spread}, "pipeline": {"mean": mean, **spread}}
    cost = {"seconds": 240.0, "prepared": 5.0, "steps": 10.0, "tokens": 123_456.0, "pairs_per_second": None}
    return {"changes": {"train.loss": {"kl": 1}}, "systems": systems, "cost": cost, "difference": difference}


FOUND: dict[str, Any] = {
    "measure": "nDCG@10",
    "system": "pipeline",
    "split": "dev",
    "queries": 8,
    "depth": 30,
    "seeds": [13],
    "budget": {"minutes": 4.0},
    "confidence": 0.95,
    "first_stage": 0.25,
    "detectable": 0.02,
    "winner": "x",
    "best_seed": 13,
    "sentence": "x wins: <at last>",
    "collection": "a & b",
    "notes": ["a note"],
    "recipes": {"base": row(0.5, None), "x": row(0.75, 0.25), "long name": row(0.25, -0.25, low=None)},
}


def test_the_table_has_every_recipe_best_first_in_columns_that_line_up() -> None:
    lines = render(FOUND).splitlines()
    assert lines[0] == "x wins: <at last>"
    assert "8 queries, top 30 reranked, 1 seed, 4 minutes of training each; first stage 0.2500" in lines[2]
    table = lines[3:7]
    assert [line.split("  ")[1] for line in table] == ["recipe", "x", "base", "long name"]
    assert len({len(line) for line in table}) == 1
    assert " ".join(table[1].split()) == "x 0.3750 0.7500 – +0.2500 +0.0100 … +0.1100 0.0300 4 min 123k –"
    assert table[2].split()[1:7] == ["0.2500", "0.5000", "–", "–", "–", "–"]
    assert "  8 queries detect a difference of about 0.0200" in lines
    assert "  a note" in lines


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"tokens": 2_048_000}, "2,048,000 tokens"),
        ({"tokens": 1_234_567}, "1,234,567 tokens"),
        ({"steps": 300}, "300 steps"),
        ({"minutes": 0.5}, "0.5 minutes"),
        ({"minutes": 4.0, "steps": 1e7}, "4 minutes and 10,000,000 steps"),
    ],
)
def test_a_budget_is_written_out(budget: dict[str, float], words: str) -> None:
    assert budget_in_words(budget) == words
    assert f"1 seed, {words} of training each" in render(FOUND | {"budget": budget})
    assert f"<dd>{words}</dd>" in render_page(FOUND | {"budget": budget})


def test_every_difference_is_put_in_words() -> None:
    text = render(FOUND)
    assert "differences from base (pipeline), p values adjusted for 2 recipes (Holm):" in text
    assert "x is better than base: nDCG@10 +0.2500" in text


def test_recipes_are_ordered_by_the_system_that_decides() -> None:
    assert [name for name, _ in by_mean(FOUND)] == ["x", "base", "long name"]
    flipped = FOUND | {"system": "reranked", "recipes": {**FOUND["recipes"]}}
    flipped["recipes"]["long name"] = row(0.25, -0.25) | {
        "systems": {"reranked": {"mean": 0.9, "sd": None}, "pipeline": {"mean": 0.1, "sd": None}}
    }
    assert next(name for name, _ in by_mean(flipped)) == "long name"
