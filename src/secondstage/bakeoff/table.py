"""A bake-off as text, for people at a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..config.bakeoff import BASE
from ..table import sentence
from .contest import in_words


def render(found: Mapping[str, Any]) -> str:
    """Who won, every recipe with its means and costs, best first, and what the others' differences show."""
    system, seeds = found["system"], len(found["seeds"])
    lines = [
        found["sentence"],
        "",
        f"{found['measure']} on {found['split']}: {found['queries']} queries, top {found['depth']} reranked, "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}, {budget_in_words(found['budget'])} of training "
        f"each; first stage {found['first_stage']:.4f}",
    ]
    lines += _table(found)
    if found["detectable"] is not None:
        lines.append(f"  {found['queries']} queries detect a difference of about {found['detectable']:.4f}")
    lines += [f"  {note}" for note in found["notes"]]
    rows = [row["difference"] for row in found["recipes"].values() if row["difference"]]
    if rows:
        lines.append(f"differences from {BASE} ({system}), p values adjusted for {len(rows)} recipes (Holm):")
        lines += [f"  {sentence(row, found['confidence'])}" for row in rows]
    return "\n".join(lines)


def budget_in_words(budget: Mapping[str, float]) -> str:
    """Steps, tokens or minutes, with the unit."""
    return " and ".join(f"{value:{',.0f' if value == int(value) else 'g'}} {name}" for name, value in budget.items())


def by_mean(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The recipes by the value that decides, best first."""
    system = found["system"]
    return sorted(found["recipes"].items(), key=lambda item: -item[1]["systems"][system]["mean"])


def _table(found: Mapping[str, Any]) -> list[str]:
    header = ["recipe", "reranked", "pipeline", "SD", "difference", "interval", "p", "training", "tokens", "pairs/s"]
    rows = [header]
    for name, row in by_mean(found):
        systems, cost, difference = row["systems"], row["cost"], row["difference"]
        rows.append(
            [
                name,
                *(f"{systems[system]['mean']:.4f}" for system in ("reranked", "pipeline")),
                _or_dash(systems[found["system"]]["sd"], ".4f"),
                *_difference(difference),
                in_words(cost["seconds"]),
                _thousands(cost["tokens"]),
                _or_dash(cost["pairs_per_second"], ".0f"),
            ]
        )
    return _aligned(rows)


def _difference(row: Mapping[str, Any] | None) -> list[str]:
    if row is None:
        return ["–"] * 3
    interval = "–" if row["low"] is None else f"{row['low']:+.4f} … {row['high']:+.4f}"
    return [f"{row['delta']:+.4f}", interval, f"{row['p_holm']:.4f}"]


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _thousands(value: float) -> str:
    return f"{value:.0f}" if value < 10_000 else f"{value / 1000:.0f}k" if value < 1e7 else f"{value / 1e6:.0f}M"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + f"{first:<{widths[0]}}" + "".join(f"  {text:>{w}}" for text, w in zip(rest, widths[1:], strict=True))
        for first, *rest in rows
    ]
