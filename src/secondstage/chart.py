"""Charts as SVG text, for a page that must need no script and no network.

Each function returns one `<svg>` with a `<title>`, a viewBox that the page scales, and CSS classes in place of colours,
so that the page decides about light and dark. Lines differ by dash and label as well, never by colour alone. What is
missing or not finite is left out, and coordinates are clamped to the plot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple, TypeGuard

WIDTH, HEIGHT, STRIP = 420.0, 250.0, 150.0
# Height of a line of text and width of a character, at the page's font size of 12 units.
TEXT, CHARACTER = 14.0, 6.4
Number = float | None


class Line(NamedTuple):
    """Its name, `[n]` positions, `[n]` values, and a CSS class: "strong", "plain", "dashed" or "dotted"."""

    name: str
    xs: Sequence[Number]
    ys: Sequence[Number]
    style: str = "plain"


class Scale(NamedTuple):
    """Maps `[low, high]`, logarithmically if `log`, to the pixels from `start` to `end`; clamps what is outside."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The coordinate of a value."""
        low, high, value = (math.log(v) for v in (self.low, self.high, value)) if self.log else (*self[:2], value)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def finite(value: object) -> TypeGuard[float]:
    """Whether this is a number that can be shown."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers, 1, 2, 2.5 or 5 times a power of ten apart, that cover `[low, high]`, widened if it is empty."""
    size = max(abs(low), abs(high))
    if high - low <= 1e-9 * size + 1e-12:
        margin = 0.1 * size if size > 1e-9 else 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9)) * power
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def labels(values: Sequence[float]) -> list[str]:
    """Ticks as text, with as many decimals as the longest of them needs."""
    digits = next((d for d in range(6) if all(math.isclose(round(v, d), v, abs_tol=1e-9) for v in values)), 6)
    plain = digits < 6 and max(map(abs, values), default=0.0) < 1e6
    return [(f"{v:.{digits}f}" if plain else f"{v:g}").replace("-", "−") for v in values]


def span(values: Iterable[object]) -> tuple[float, float]:
    """Round bounds that hold zero and every finite value: the common scale of a column of `forest`."""
    numbers = [0.0, *(v for v in values if finite(v))]
    found = ticks(min(numbers), max(numbers))
    return found[0], found[-1]


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    marks: Mapping[str, Number] | None = None,
    height: float = HEIGHT,
) -> str:
    """Lines over common axes, each with its name at its end, and vertical marks with their names on top.

    Args:
        title: what the chart shows, for those who cannot see it.
        lines: those without a point are left out; without any line the chart is empty text.
        x_label: below the axis.
        y_label: above the axis.
        log_x: a logarithmic axis with a tick at each position; positions must be above zero.
        marks: a position by name.
        height: in units of which the width has 420.
    """
    drawn = [(line, points) for line in lines if (points := _points(line, log_x))]
    if not drawn:
        return ""
    kept = {name: x for name, x in (marks or {}).items() if finite(x) and (x > 0 or not log_x)}
    xs = sorted({x for _, points in drawn for x, _ in points})
    ys = [y for _, points in drawn for _, y in points]
    x_ticks, y_ticks = xs if log_x else ticks(xs[0], xs[-1]), ticks(min(ys), max(ys))
    room = CHARACTER * max(len(line.name) for line, _ in drawn) + 12
    x = Scale(x_ticks[0], x_ticks[-1], 44, WIDTH - room, log_x)
    y = Scale(y_ticks[0], y_ticks[-1], height - 36, 24 + TEXT * len(kept))
    parts = [*_axes(x, x_ticks, y, y_ticks, x_label, y_label), *_marks(x, y, kept)]
    for line, points in drawn:
        parts.append(_path(f"line {line.style}", [(x.at(a), y.at(b)) for a, b in points]))
        if (line.style == "strong" and len(points) <= 20) or len(points) == 1:
            parts += [_circle(x.at(a), y.at(b), 2.5, f"dot {line.style}") for a, b in points]
    ends = _spread([y.at(points[-1][1]) for _, points in drawn], y)
    parts += [
        _text(x.end + 8, at + 4, line.name, f"name {line.style}") for (line, _), at in zip(drawn, ends, strict=True)
    ]
    return _svg(title, WIDTH, height, parts)


def bars(title: str, values: Sequence[Number], *, x_label: str, y_label: str) -> str:
    """One bar for each value, in the order given; those above zero and those below are of different classes."""
    kept = [v for v in values if finite(v)]
    if not kept:
        return ""
    y_ticks = ticks(min(0.0, *kept), max(0.0, *kept))
    x, y = Scale(0, len(kept), 44, WIDTH - 8), Scale(y_ticks[0], y_ticks[-1], HEIGHT - 36, 24)
    parts = _axes(x, [], y, y_ticks, x_label, y_label)
    # Gaps between bars that are thinner than a few pixels would be noise.
    width, floor = (x.at(1) - x.at(0)) * (0.8 if len(kept) <= 60 else 1.0), y.at(0)
    for name, sign in (("win", 1), ("loss", -1)):
        found = [(x.at(i), y.at(v)) for i, v in enumerate(kept) if v * sign > 0]
        path = "".join(f"M{left:.2f} {floor:.2f}V{top:.2f}h{width:.2f}V{floor:.2f}Z" for left, top in found)
        parts += [f'<path class="bar {name}" d="{path}"/>'] if found else []
    return _svg(title, WIDTH, HEIGHT, [*parts, _path("zero", [(x.start, floor), (x.end, floor)])])


def histogram(title: str, edges: Sequence[float], groups: Mapping[str, Sequence[int]], *, x_label: str) -> str:
    """Up to two groups over the same bins, each as shares of its own total; the first is filled, the second dashed."""
    shares = {name: [n / sum(counts) for n in counts] for name, counts in groups.items() if sum(counts)}
    if not shares or len(edges) < 2:
        return ""
    x_ticks, y_ticks = ticks(edges[0], edges[-1], 6), ticks(0.0, max(max(values) for values in shares.values()))
    x, y = Scale(x_ticks[0], x_ticks[-1], 44, WIDTH - 8), Scale(0, y_ticks[-1], HEIGHT - 36, 42)
    parts, left = _axes(x, x_ticks, y, y_ticks, x_label, "share of each group"), x.start
    for (name, values), style in zip(shares.items(), ("filled", "open"), strict=False):
        bins = zip(pairwise(edges), values, strict=True)
        steps = [(x.at(edge), y.at(share)) for pair, share in bins for edge in pair]
        parts.append(_path(f"area {style}", [(x.at(edges[0]), y.at(0)), *steps, (x.at(edges[-1]), y.at(0))]))
        parts.append(f'<rect class="area {style}" x="{left:.2f}" y="22" width="14" height="10"/>')
        parts.append(_text(left + 20, 31, name, "name plain"))
        left += 40 + CHARACTER * len(name)
    return _svg(title, WIDTH, HEIGHT, parts)


def reliability(title: str, bins: Iterable[tuple[float, float, int]]) -> str:
    """Observed share over predicted probability; a dot's area is its count, the diagonal is perfect calibration."""
    kept = [(p, r, n) for p, r, n in bins if finite(p) and finite(r) and n > 0]
    if not kept:
        return ""
    grid, most = [0.0, 0.25, 0.5, 0.75, 1.0], max(n for _, _, n in kept)
    x, y = Scale(0, 1, 50, WIDTH - 14), Scale(0, 1, HEIGHT - 36, 24)
    parts = _axes(x, grid, y, grid, "predicted probability", "observed share of relevant documents")
    parts.append(_path("line dotted", [(x.at(0), y.at(0)), (x.at(1), y.at(1))]))
    parts.append(_path("line strong", [(x.at(p), y.at(r)) for p, r, _ in kept]))
    parts += [_circle(x.at(p), y.at(r), 2 + 6 * math.sqrt(n / most), "dot strong") for p, r, n in kept]
    return _svg(title, WIDTH, HEIGHT, parts)


def forest(title: str, value: Number, low: Number, high: Number, bounds: tuple[float, float]) -> str:
    """A difference and its interval in one table cell, on a scale that other rows share.

    A filled dot if the interval leaves zero out, else a hollow one; an arrow head where something is past the scale.
    """
    x, ends = Scale(*bounds, 8, STRIP - 8), [v for v in (low, high) if finite(v)]
    found, whole = [*ends, value] if finite(value) else ends, len(ends) == 2
    parts = [_path("zero", [(x.at(0), 1), (x.at(0), 19)])]
    parts += [_path("interval", [(x.at(v), 10) for v in ends])] if whole else []
    parts += [_path("arrow", [(8, 6), (2, 10), (8, 14)])] if min(found, default=0.0) < bounds[0] else []
    parts += [_path("arrow", [(142, 6), (148, 10), (142, 14)])] if max(found, default=0.0) > bounds[1] else []
    if finite(value) and bounds[0] <= value <= bounds[1]:
        clear = "clear" if whole and not ends[0] <= 0 <= ends[1] else "unclear"
        parts.append(_circle(x.at(value), 10, 4, f"dot {clear}"))
    return _svg(title, STRIP, 20, parts, "strip")


def bar(title: str, share: Number) -> str:
    """A share of one as a horizontal bar in a table cell."""
    widths = {"track": STRIP, "bar win": Scale(0, 1, 0, STRIP).at(share) if finite(share) else 0.0}
    parts = [f'<rect class="{css}" x="0" y="4" width="{width:.2f}" height="12"/>' for css, width in widths.items()]
    return _svg(title, STRIP, 20, parts, "strip")


def _axes(x: Scale, x_ticks: Sequence[float], y: Scale, y_ticks: Sequence[float], below: str, above: str) -> list[str]:
    parts = [_text(0, 12, above, "label"), _text(x.end, y.start + 32, below, "label", "end")]
    for value, label in zip(y_ticks, labels(y_ticks), strict=True):
        parts.append(_path("grid", [(x.start, y.at(value)), (x.end, y.at(value))]))
        parts.append(_text(x.start - 6, y.at(value) + 4, label, "", "end"))
    last = -math.inf
    for value, label in zip(x_ticks, labels(x_ticks), strict=True):
        half = CHARACTER * len(label) / 2
        if x.at(value) - half > last + 6:
            parts.append(_text(x.at(value), y.start + 16, label, "", "middle"))
            last = x.at(value) + half
    return parts


def _marks(x: Scale, y: Scale, marks: Mapping[str, float]) -> list[str]:
    parts = []
    for row, (name, value) in enumerate(sorted(marks.items(), key=lambda mark: mark[1])):
        at, level, room = x.at(value), 27 + TEXT * row, CHARACTER * len(name) + 8
        # The first of several to the left, clear of the next one's line.
        left = room < at and (row < len(marks) - 1 or at + room > WIDTH)
        parts.append(_path("mark", [(at, level - 9), (at, y.start)]))
        parts.append(_text(at - 5 if left else at + 5, level, name, "name plain", "end" if left else "start"))
    return parts


def _spread(positions: Sequence[float], y: Scale) -> list[float]:
    """Move labels apart to at least a line of text, in their order, within the plot where it has the room."""
    placed, previous, order = list(positions), -math.inf, sorted(range(len(positions)), key=positions.__getitem__)
    for i in order:
        previous = placed[i] = max(placed[i], previous + TEXT)
    limit = max(y.start, y.end + TEXT * (len(placed) - 1))
    for i in reversed(order):
        placed[i] = min(placed[i], limit)
        limit = placed[i] - TEXT
    return placed


def _points(line: Line, log_x: bool) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(line.xs, line.ys, strict=True) if finite(x) and finite(y) and (x > 0 or not log_x)]


def _path(css: str, points: Sequence[tuple[float, float]]) -> str:
    return f'<path class="{css}" d="M{"L".join(f"{x:.2f} {y:.2f}" for x, y in points)}"/>'


def _circle(x: float, y: float, radius: float, css: str) -> str:
    return f'<circle class="{css}" cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}"/>'


def _text(x: float, y: float, text: str, css: str = "", anchor: str = "start") -> str:
    return f'<text class="{css}" x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, width: float, height: float, parts: Iterable[str], css: str = "chart") -> str:
    head = f'<svg class="{css}" role="img" viewBox="0 0 {width:g} {height:g}"><title>{escape(title)}</title>'
    return head + "".join(parts) + "</svg>"
