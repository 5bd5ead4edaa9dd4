"""What the HTML pages share: their style, how numbers are written, and templates that escape what they are given.

A page is one file without a script, and nothing in it comes from the network.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .chart import finite

if TYPE_CHECKING:
    from jinja2 import Environment

STYLE = Path(__file__).with_name("page.css")
MISSING = "–"
# Keeps a number and its unit on one line.
SPACE = "\N{NO-BREAK SPACE}"


def number(value: object, digits: int = 3) -> str:
    """A number with so many decimals, thousands apart; a dash for what is missing."""
    if not finite(value):
        return MISSING
    text = f"{value:,.{digits}f}".replace("-", "−")
    return text if text.strip("−0.") else text.lstrip("−")


def signed(value: object, digits: int = 3) -> str:
    """A difference: with its sign, but for one that rounds to zero."""
    text = number(value, digits)
    return f"+{text}" if finite(value) and value > 0 and text.strip("0.") else text


def percent(value: object, digits: int = 0) -> str:
    """A share of one in percent."""
    return f"{number(100 * value, digits)}{SPACE}%" if finite(value) else MISSING


def environment() -> Environment:
    """A Jinja environment: texts are escaped, what is missing is empty, `{{ style }}` is the pages' CSS."""
    from jinja2 import ChainableUndefined, Environment
    from markupsafe import Markup

    found = Environment(autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters |= {"number": number, "whole": partial(number, digits=0), "signed": signed, "percent": percent}
    found.globals["style"] = Markup(STYLE.read_text(encoding="utf-8"))
    return found


def add_charts(environment: Environment, *charts: Callable[..., str]) -> None:
    """Let templates call these by their names. Their results are not escaped again: charts escape their texts."""
    from markupsafe import Markup

    for chart in charts:
        environment.globals[chart.__name__] = lambda *args, chart=chart: Markup(chart(*args))
