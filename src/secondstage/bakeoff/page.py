"""A bake-off as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..chart import forest, span
from ..page import add_charts, environment, signed
from .contest import in_words
from .table import budget_in_words, by_mean

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATE = Path(__file__).with_name("report.html.j2")


def render_page(found: Mapping[str, Any]) -> str:
    """The page of what `results.json` holds."""
    rows = by_mean(found)
    differences = [row["difference"] for _, row in rows if row["difference"]]
    scale = span(row[key] for row in differences for key in ("delta", "low", "high"))
    return _template().render(found=found, rows=rows, scale=scale)


def forest_plot(row: Mapping[str, Any], scale: tuple[float, float]) -> str:
    """A recipe's difference from the base and its interval."""
    title = f"Difference {signed(row['delta'], 4)} from the base"
    return forest(title, row["delta"], row["low"], row["high"], scale)


@cache
def _template() -> Template:
    found = environment()
    found.filters |= {"in_words": in_words, "budget_in_words": budget_in_words}
    add_charts(found, forest_plot)
    return found.from_string(TEMPLATE.read_text(encoding="utf-8"))
