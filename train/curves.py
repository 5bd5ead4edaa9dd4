"""The curves of a training as one page, `curves.html`: no script, nothing from the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from secondstage.chart import Line, Number, finite, line_chart
from secondstage.files import read_json, writing_whole
from secondstage.page import add_charts, environment, number

from .selection import MEASURE
from .tracking import DEV, RUN, STEPS, TIMING, flat, read_lines

if TYPE_CHECKING:
    from jinja2 import Template

PAGE = "curves.html"
TEMPLATE = Path(__file__).with_name("curves.html.j2")
# Points of a line: more cannot be told apart on a page, and would make it large.
POINTS = 150
# A smooth line averages over this share of the steps.
SMOOTH = 0.1
Record = Mapping[str, Any]


def write_curves(folder: Path, findings: Sequence[str] = ()) -> None:
    """Write `curves.html` beside the files that `Tracking` wrote.

    Args:
        folder: of `run.json`, `steps.jsonl`, `dev.jsonl` and `timing.jsonl`.
        findings: what was found wrong, in words.
    """
    steps, dev, timing = (read_lines(folder / name) for name in (STEPS, DEV, TIMING))
    with writing_whole(folder / PAGE) as temporary:
        temporary.write_text(render_curves(steps, dev, timing, read_json(folder / RUN), findings), encoding="utf-8")


def render_curves(
    steps: Sequence[Record], dev: Sequence[Record], timing: Sequence[Record], run: Record, findings: Sequence[str] = ()
) -> str:
    """The page as HTML, light and dark.

    Args:
        steps: the lines of `steps.jsonl`.
        dev: the lines of `dev.jsonl`.
        timing: the lines of `timing.jsonl`.
        run: what `run.json` holds.
        findings: what was found wrong, in words.
    """
    return _template().render(
        headline=headline(steps, dev),
        findings=findings,
        glance=glance(steps, dev, timing),
        steps=steps,
        dev=dev,
        timing=timing,
        clip=run.get("config", {}).get("clip"),
        terms=list(steps[-1]["terms"]) if steps else [],
        settings={name: value for name, value in flat(run).items() if value not in (None, "")},
        measure=MEASURE,
        folds=run.get("config", {}).get("folds"),
    )


def headline(steps: Sequence[Record], dev: Sequence[Record]) -> str:
    """How the training went, in a sentence."""
    if not steps:
        return "Nothing was trained."
    made = f"{len(steps):,} step{'s' if len(steps) > 1 else ''}"
    if not dev:
        return f"After {made} the loss is {number(steps[-1]['loss'])}; there was no dev set."
    best = kept(dev)
    gain = best[MEASURE] - best["first_stage"]
    side = "above" if gain >= 0 else "below"
    return (
        f"After {best['step']:,} of {made}, the reranker alone reaches {MEASURE} {number(best[MEASURE])} on dev, "
        f"{number(abs(gain))} {side} the first stage."
    )


def kept(dev: Sequence[Record]) -> Record:
    """The evaluation of the weights that were kept: the last may be, though an earlier one is a little higher."""
    return [line for line in dev if line["kept"]][-1]


def glance(steps: Sequence[Record], dev: Sequence[Record], timing: Sequence[Record]) -> dict[str, float | None]:
    """The figures at the top; none where nothing was measured."""
    seconds = sum(line["seconds"] for line in timing if "seconds" in line)
    evaluating = sum(line["evaluation_seconds"] for line in timing if "evaluation_seconds" in line)
    total = {name: sum(line[name] for line in steps) for name in ("lists", "pairs", "tokens", "padding")}
    return {
        "dev": kept(dev)[MEASURE] if dev else None,
        "first_stage": dev[-1]["first_stage"] if dev else None,
        "minutes": seconds / 60,
        "evaluating": evaluating / 60,
        "pairs_per_s": total["pairs"] / seconds if seconds else None,
        "tokens_per_s": (total["tokens"] - total["padding"]) / seconds if seconds else None,
        "waste": total["padding"] / total["tokens"] if total["tokens"] else None,
        "lists": total["lists"],
        "pairs": total["pairs"],
    }


def thin(xs: Sequence[float], ys: Sequence[Number], most: int = POINTS) -> tuple[list[float], list[Number]]:
    """At most so many points: means over parts of equal length. What is not finite is left out of them."""
    if len(xs) <= most:
        return list(xs), list(ys)
    edges = [round(i * len(xs) / most) for i in range(most + 1)]
    parts = list(pairwise(edges))
    means = [[y for y in ys[start:end] if finite(y)] for start, end in parts]
    return [fmean(xs[start:end]) for start, end in parts], [fmean(part) if part else None for part in means]


def smooth(ys: Sequence[Number], share: float = SMOOTH) -> list[Number]:
    """Means over a window around each point, as wide as this share of all, and narrower towards the ends."""
    half = round(share * len(ys) / 2)
    found: list[Number] = []
    for i in range(len(ys)):
        reach = min(half, i, len(ys) - 1 - i)
        near = [y for y in ys[i - reach : i + reach + 1] if finite(y)]
        found.append(fmean(near) if near else None)
    return found


def step_plot(title: str, lines: Sequence[Record], key: str, y_label: str, level: float | None = None) -> str:
    """One value of each step, as it was and smoothed, and a level to compare with.

    Args:
        title: what the chart shows.
        lines: of a file of the training; those without the value are left out.
        key: of the value; a slash leads into a nested one.
        y_label: above the axis.
        level: drawn as a dashed line named after what it is, `train.clip`.
    """
    kept = [(line, flat(line)) for line in lines]
    points = [(line["step"], values[key]) for line, values in kept if key in values]
    if not points:
        return ""
    xs, ys = thin([x for x, _ in points], [y for _, y in points])
    found = [Line("each step" if len(points) <= POINTS else "as it was", xs, ys)]
    if len(xs) > 2:
        found.append(Line("smoothed", xs, smooth(ys), "strong"))
    if level is not None:
        found.append(Line("train.clip", [xs[0], xs[-1]], [level, level], "dashed"))
    return line_chart(title, found, x_label="step", y_label=y_label)


def rate_plot(steps: Sequence[Record]) -> str:
    """The learning rate, in millionths: axes have no room for more decimals."""
    xs, ys = thin([line["step"] for line in steps], [1e6 * line["learning_rate"] for line in steps])
    return line_chart("Learning rate", [Line("", xs, ys, "strong")], x_label="step", y_label="learning rate × 10⁶")


def padding_plot(steps: Sequence[Record]) -> str:
    """The share of tokens that are padding."""
    shares = [{"step": line["step"], "waste": 100 * line["padding"] / line["tokens"]} for line in steps]
    return step_plot("Padding of each step", shares, "waste", "% of tokens")


def dev_plot(dev: Sequence[Record]) -> str:
    """Dev over the steps, the first stage as a line."""
    if not dev:
        return ""
    xs = [line["step"] for line in dev]
    lines = [
        Line("reranker", xs, [line[MEASURE] for line in dev], "strong"),
        Line("first stage", xs, [line["first_stage"] for line in dev], "dashed"),
    ]
    return line_chart(f"{MEASURE} on dev", lines, x_label="step", y_label=MEASURE)


@cache
def _template() -> Template:
    found = environment()
    add_charts(found, step_plot, rate_plot, padding_plot, dev_plot)
    return found.from_string(TEMPLATE.read_text(encoding="utf-8"))
