"""What pages share: numbers in words of one style, and templates that escape what they are given."""

from __future__ import annotations

import re

import pytest

from secondstage.page import STYLE, add_charts, environment, number, percent, signed

NBSP = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(0.12345), "0.123"),
        (number(-1234.5, 1), "−1,234.5"),
        (number(-0.0001), "0.000"),
        (number(None), "–"),
        (number(float("nan")), "–"),
        (percent(0.3315), f"33{NBSP}%"),
        (signed(0.0701), "+0.070"),
        (signed(-0.0701), "−0.070"),
        (signed(0.0), "0.000"),
        (signed(0.0001), "0.000"),
        (signed(-0.0001), "0.000"),
        (signed(None), "–"),
    ],
)
def test_numbers_are_written_in_one_style(text: str, expected: str) -> None:
    assert text == expected


def test_texts_are_escaped_and_charts_are_not() -> None:
    def drawing(title: str) -> str:
        return f"<svg>{title}</svg>"

    found = environment()
    add_charts(found, drawing)
    template = found.from_string(
        "{{ text }} {{ drawing('x') }} {{ 0.5|percent }} {{ 1234|whole }} {{ 2|signed(0) }} {{ none.at.all }}"
    )
    assert template.render(text="<b>&") == f"&lt;b&gt;&amp; <svg>x</svg> 50{NBSP}% 1,234 +2 "


def test_the_style_asks_nothing_of_the_network_and_knows_the_dark() -> None:
    style = STYLE.read_text(encoding="utf-8")
    assert environment().from_string("{{ style }}").render() == style
    assert not re.search(r"url\(|@import|http|</", style)
    assert "prefers-color-scheme:dark" in style
