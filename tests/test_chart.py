"""Charts: well-formed, inside their box, and true to the data."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.chart import (
    Line,
    Scale,
    bar,
    bars,
    forest,
    histogram,
    labels,
    line_chart,
    reliability,
    span,
    ticks,
)

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)
HOSTILE = "<b>\"&'</title><script>"


def marks_of(svg: str, tag: str, css: str = "") -> list[ElementTree.Element]:
    """The elements of a tag whose class holds these words."""
    wanted = set(css.split())
    return [e for e in ElementTree.fromstring(svg).iter(tag) if wanted <= set(e.get("class", "").split())]


def points_of(path: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([-\d.]+) ([-\d.]+)", path.get("d", ""))]


def texts_of(svg: str) -> list[str | None]:
    return [text.text for text in ElementTree.fromstring(svg).iter("text")]


def assert_sound(svg: str) -> None:
    """Well-formed, titled, and nothing drawn outside the viewBox."""
    root = ElementTree.fromstring(svg)
    _, _, width, height = map(float, root.get("viewBox", "").split())
    assert root.get("role") == "img"
    assert root[0].tag == "title"
    assert not re.search(r"nan|inf", " ".join(value for e in root.iter() for value in e.attrib.values()).lower())
    for element in root.iter():
        drawn = points_of(element)
        drawn += [(float(element.get("x", element.get("cx", "0"))), float(element.get("y", element.get("cy", "0"))))]
        drawn += [(0.0, float(v)) for v in re.findall(r"V([-\d.]+)", element.get("d", ""))]
        assert all(0 <= x <= width and 0 <= y <= height for x, y in drawn)


class TestTicks:
    @given(NUMBERS, NUMBERS)
    def test_cover_the_range_at_equal_distances(self, a: float, b: float) -> None:
        low, high = min(a, b), max(a, b)
        found = ticks(low, high)
        slack = 1e-6 * max(1e-9, high - low)
        assert found[0] <= low + slack
        assert found[-1] >= high - slack
        steps = [right - left for left, right in pairwise(found)]
        assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-3)
        assert 1 <= len(steps) <= 6

    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [
            (0, 1, [0, 0.25, 0.5, 0.75, 1]),
            (0.463, 0.535, [0.46, 0.48, 0.5, 0.52, 0.54]),
            (-0.05, 0.13, [-0.05, 0, 0.05, 0.1, 0.15]),
            (0, 400, [0, 100, 200, 300, 400]),
        ],
    )
    def test_are_round(self, low: float, high: float, expected: list[float]) -> None:
        assert ticks(low, high) == expected

    @pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0, 0), (0, 5e-324), (1e6, 1e6 + 1e-9), (-1e-310, 1e-310)])
    def test_widen_a_range_that_is_empty(self, low: float, high: float) -> None:
        assert ticks(low, high)[0] < low <= high < ticks(low, high)[-1]

    def test_labels_have_equal_decimals(self) -> None:
        assert labels([0, 0.25, 0.5]) == ["0.00", "0.25", "0.50"]
        assert labels([-5, 0, 5]) == ["−5", "0", "5"]
        assert labels([0, 5e6]) == ["0", "5e+06"]


class TestScale:
    def test_is_linear_and_clamps(self) -> None:
        scale = Scale(0, 10, 100, 200)
        assert [scale.at(v) for v in (-5, 0, 5, 10, 11)] == [100, 100, 150, 200, 200]

    def test_places_a_factor_at_equal_distances_on_a_logarithmic_axis(self) -> None:
        scale = Scale(1, 100, 0, 80, log=True)
        assert [scale.at(v) for v in (1, 10, 100)] == pytest.approx([0, 40, 80])

    def test_of_nothing_is_the_middle(self) -> None:
        assert Scale(3, 3, 0, 10).at(3) == 5

    @given(st.lists(st.one_of(NUMBERS, st.none(), st.just(math.nan), st.just(math.inf))))
    def test_span_holds_zero_and_all_that_is_finite(self, values: list[float | None]) -> None:
        low, high = span(values)
        kept = [v for v in values if v is not None and math.isfinite(v)]
        slack = 1e-6 * (high - low)
        assert low <= 0 <= high
        assert all(low - slack <= v <= high + slack for v in kept)


class TestLineChart:
    @given(st.lists(st.tuples(st.floats(1, 1e4), NUMBERS), min_size=1, max_size=8), st.booleans())
    def test_stays_inside(self, points: list[tuple[float, float]], log: bool) -> None:
        xs, ys = [x for x, _ in points], [y for _, y in points]
        lines = [Line("one", xs, ys, "strong"), Line("two", xs, [0.0] * len(xs), "dashed")]
        marks = {"here": xs[0], "there": xs[-1]}
        assert_sound(line_chart("t", lines, x_label="x", y_label="y", log_x=log, marks=marks))

    def test_of_rising_data_rises(self) -> None:
        svg = line_chart("t", [Line("", [5, 10, 50], [0.1, 0.2, 0.9], "strong")], x_label="x", y_label="y", log_x=True)
        (path,) = marks_of(svg, "path", "line")
        xs, ys = zip(*points_of(path), strict=True)
        assert list(xs) == sorted(set(xs))
        assert list(ys) == sorted(set(ys), reverse=True)  # up is a smaller y

    def test_leaves_out_what_is_missing(self) -> None:
        lines = [Line("a", [1, 2, 3], [0.5, None, 0.7]), Line("b", [0, 2], [math.nan, None]), Line("c", [0], [1])]
        svg = line_chart("t", lines, x_label="x", y_label="y", log_x=True, marks={"m": None, "n": 2})
        assert [len(points_of(path)) for path in marks_of(svg, "path", "line")] == [2]
        assert {"a", "n"} <= set(texts_of(svg))
        assert not {"b", "c", "m"} & set(texts_of(svg))

    def test_of_nothing_is_nothing(self) -> None:
        assert line_chart("t", [Line("a", [1], [None])], x_label="x", y_label="y") == ""

    def test_names_of_lines_that_end_together_keep_apart(self) -> None:
        lines = [Line(name, [0, 1], [0, end], "plain") for name, end in (("a", 1), ("b", 1), ("c", 0.99), ("d", 0))]
        svg = line_chart("t", lines, x_label="x", y_label="y")
        heights = sorted(float(text.get("y", "")) for text in marks_of(svg, "text", "name"))
        assert min(right - left for left, right in pairwise(heights)) >= 12

    def test_labels_of_a_crowded_axis_keep_apart(self) -> None:
        depths = [5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000]
        svg = line_chart("t", [Line("a", depths, depths)], x_label="x", y_label="y", log_x=True)
        row = [text for text in marks_of(svg, "text") if text.get("text-anchor") == "middle"]
        places = [float(text.get("x", "")) for text in row]
        assert row[0].text == "5"
        assert min(right - left for left, right in pairwise(places)) > 15


class TestBars:
    @given(st.lists(st.floats(-1, 1), min_size=1, max_size=400))
    def test_stay_inside(self, values: list[float]) -> None:
        assert_sound(bars("t", values, x_label="x", y_label="y"))

    def test_rise_above_zero_for_wins_and_fall_below_for_losses(self) -> None:
        svg = bars("t", [0.5, 0.25, 0.0, -0.5], x_label="x", y_label="y")
        ((_, zero), _) = points_of(marks_of(svg, "path", "zero")[0])
        tops = {css: marks_of(svg, "path", f"bar {css}")[0].get("d", "") for css in ("win", "loss")}
        heights = {css: [zero - float(v) for v in re.findall(r"V([\d.]+)h", path)] for css, path in tops.items()}
        assert len(heights["win"]) == 2
        assert heights["win"][0] == pytest.approx(2 * heights["win"][1], abs=0.02)
        assert heights["loss"] == pytest.approx([-heights["win"][0]], abs=0.02)

    def test_of_ties_alone_draw_no_bar(self) -> None:
        svg = bars("t", [0.0, 0.0], x_label="x", y_label="y")
        assert_sound(svg)
        assert not marks_of(svg, "path", "bar")


class TestHistogram:
    EDGES = (-2.0, -1.0, 0.0, 1.5)

    def test_shows_shares_so_that_the_size_of_a_group_does_not_matter(self) -> None:
        one = histogram("t", self.EDGES, {"relevant": [1, 2, 1], "other": [30, 10, 0]}, x_label="score")
        two = histogram("t", self.EDGES, {"relevant": [7, 14, 7], "other": [3, 1, 0]}, x_label="score")
        assert one == two
        assert_sound(one)

    def test_tells_groups_apart_without_colour(self) -> None:
        svg = histogram("t", self.EDGES, {"relevant": [1, 2, 1], "other": [3, 1, 0]}, x_label="score")
        assert len(marks_of(svg, "path", "area filled")) == len(marks_of(svg, "path", "area open")) == 1
        assert {"relevant", "other"} <= set(texts_of(svg))

    def test_leaves_out_an_empty_group(self) -> None:
        svg = histogram("t", self.EDGES, {"relevant": [0, 0, 0], "other": [3, 1, 0]}, x_label="score")
        assert "relevant" not in texts_of(svg)
        assert histogram("t", self.EDGES, {"relevant": [0, 0, 0]}, x_label="score") == ""


class TestReliability:
    def test_puts_perfect_bins_on_the_diagonal(self) -> None:
        svg = reliability("t", [(p, p, 10) for p in (0.1, 0.4, 0.9)])
        (x0, y0), (x1, y1) = points_of(marks_of(svg, "path", "line dotted")[0])
        for dot in marks_of(svg, "circle"):
            x, y = float(dot.get("cx", "")), float(dot.get("cy", ""))
            assert (x - x0) / (x1 - x0) == pytest.approx((y - y0) / (y1 - y0), abs=1e-3)
        assert_sound(svg)

    def test_draws_larger_bins_larger_and_empty_ones_not(self) -> None:
        svg = reliability("t", [(0.1, 0.1, 1000), (0.5, 0.5, 10), (0.9, 0.9, 0)])
        large, small = (float(dot.get("r", "")) for dot in marks_of(svg, "circle"))
        assert large > small
        assert reliability("t", []) == ""


class TestForest:
    BOUNDS = (-0.1, 0.1)

    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [(0.01, 0.05, "clear"), (-0.05, -0.01, "clear"), (-0.01, 0.05, "unclear"), (None, None, "unclear")],
    )
    def test_dot_is_filled_where_zero_is_out(self, low: float | None, high: float | None, expected: str) -> None:
        svg = forest("t", 0.02, low, high, self.BOUNDS)
        assert [dot.get("class") for dot in marks_of(svg, "circle")] == [f"dot {expected}"]
        assert len(marks_of(svg, "path", "interval")) == (low is not None)
        assert_sound(svg)

    def test_points_past_the_scale_instead_of_drawing_at_its_edge(self) -> None:
        svg = forest("t", 0.4, 0.3, 0.5, self.BOUNDS)
        assert not marks_of(svg, "circle")
        assert len(marks_of(svg, "path", "arrow")) == 1
        assert_sound(svg)
        both = forest("t", 0.0, -0.3, 0.5, self.BOUNDS)
        assert len(marks_of(both, "path", "arrow")) == 2
        assert len(marks_of(both, "circle")) == 1

    @given(NUMBERS, NUMBERS, NUMBERS, st.lists(NUMBERS))
    def test_stays_inside(self, value: float, low: float, high: float, others: list[float]) -> None:
        assert_sound(forest("t", value, low, high, span(others)))

    def test_without_a_value_is_the_zero_line(self) -> None:
        assert len(ElementTree.fromstring(forest("t", None, None, None, self.BOUNDS))) == 2


@pytest.mark.parametrize(("share", "width"), [(0.0, 0.0), (0.5, 75.0), (1.0, 150.0), (7.0, 150.0), (None, 0.0)])
def test_bar_is_as_wide_as_its_share(share: float | None, width: float) -> None:
    svg = bar("t", share)
    assert float(marks_of(svg, "rect", "bar")[0].get("width", "")) == width
    assert_sound(svg)


@pytest.mark.parametrize(
    "draw",
    [
        lambda text: line_chart(text, [Line(text, [0, 1], [0, 1])], x_label=text, y_label=text, marks={text: 1}),
        lambda text: bars(text, [1], x_label=text, y_label=text),
        lambda text: histogram(text, [0, 1], {text: [1]}, x_label=text),
        lambda text: reliability(text, [(0.5, 0.5, 1)]),
        lambda text: forest(text, 0, 0, 0, (0, 1)),
        lambda text: bar(text, 1),
    ],
)
def test_texts_are_escaped(draw: Callable[[str], str]) -> None:
    root = ElementTree.fromstring(draw(HOSTILE))
    assert root[0].text == HOSTILE
    assert not list(root.iter("script"))
