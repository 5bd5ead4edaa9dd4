"""The report: one self-contained HTML page out of `metrics.json`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secondstage.chart import Line, bar, bars, finite, forest, histogram, line_chart, reliability, span
from secondstage.page import MISSING, SPACE, add_charts, environment, number, signed

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATE = Path(__file__).with_name("report.html.j2")
Record = Mapping[str, Any]

SYSTEMS = {
    "first_stage": ("First stage", "what the search returns today"),
    "identity": ("Identity", "the first stage’s order, sent through the reranking path: a check"),
    "random": ("Random order", "of the same lists: the floor"),
    "bm25": ("BM25", "keyword search alone"),
    "dense": ("Dense retrieval", "embedding search alone"),
    "sparse": ("Sparse retrieval", "a learned sparse encoder alone"),
    "untuned": ("Untuned reranker", "the base model before training"),
    "teacher": ("Teacher", "the larger model that labelled the training data"),
    "remote": ("Remote reranker", "a service, for comparison"),
    "reranked": ("Reranker alone", "without fusion"),
    "pipeline": ("Pipeline", "first stage and reranker, fused: what is shipped"),
    "oracle": ("Oracle", "a perfect order of the same lists: the ceiling"),
}
CAUSES = {
    "first_stage_miss": ("Missed by the first stage", "no relevant document is a candidate; no reranker can help"),
    "truncated": ("Truncated", "the reranker reads too little of it: the part cut off would have been enough"),
    "unjudged": ("Not judged", "what is ranked first has no judgement, and may well be relevant"),
    "reranker_error": ("Reranker error", "all else: the candidates were there, in the wrong order"),
}
METHODS = {"temperature": "temperature scaling", "platt": "Platt scaling", "isotonic": "isotonic regression"}
KINDS = {
    "same_text": "same text",
    "near_duplicate": "near duplicate",
    "document": "shared relevant document",
    "any": "any of these",
}
# Far from all others by construction: the scale of the forest plots is not theirs.
REFERENCES = ("oracle", "random")


def render_report(metrics: Mapping[str, Any]) -> str:
    """The report as HTML: no script, nothing from the network, light and dark.

    Args:
        metrics: what `metrics.json` holds; whatever is missing, null or empty there is left out here.
    """
    return _template().render(
        metrics=metrics,
        measure=metrics.get("measure") or "nDCG@10",
        first=next(iter((metrics.get("test_sets") or {}).values()), None),
    )


def interval(record: Record | None, digits: int = 3) -> str:
    """The bounds of a record's interval; a dash where it has none."""
    low, high = (record or {}).get("low"), (record or {}).get("high")
    return f"[{signed(low, digits)}, {signed(high, digits)}]" if finite(low) and finite(high) else MISSING


def p_value(value: object) -> str:
    """A p-value; those below a thousandth only as such."""
    return "< 0.001" if finite(value) and value < 0.001 else number(value)


def milliseconds(value: object) -> str:
    """A latency with two significant digits where it is below ten."""
    return f"{number(value, 1 if finite(value) and value < 10 else 0)}{SPACE}ms" if finite(value) else MISSING


def duration(value: object) -> str:
    """Seconds as hours, minutes and seconds."""
    if not finite(value):
        return MISSING
    if value < 60:
        return f"{value:.1f}{SPACE}s"
    minutes, seconds = divmod(round(value), 60)
    text = f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
    return text.replace(" ", SPACE)


def columns(systems: Record, measure: str) -> list[str]:
    """The measures that any system has, the primary one first."""
    found = dict.fromkeys(name for system in systems.values() for name in system.get("measures") or {})
    return sorted(found, key=lambda name: name != measure)


def by_measure(systems: Record, measure: str) -> list[tuple[str, Record]]:
    """Systems in falling order of a measure; those without it at the end."""

    def key(name: str) -> float:
        value = (systems[name].get("measures") or {}).get(measure)
        return -value if finite(value) else math.inf

    return [(name, systems[name]) for name in sorted(systems, key=key)]


def gain(test: Record | None, measure: str) -> Record | None:
    """The comparison of the pipeline with the first stage in the primary measure."""
    wanted = {"system": "pipeline", "baseline": "first_stage", "measure": measure}
    found = (test or {}).get("comparisons") or []
    return next((row for row in found if wanted.items() <= row.items()), None)


def bounds(rows: Iterable[Record | None]) -> tuple[float, float]:
    """The common scale of these rows' forest plots: made by those with an interval that are no mere reference."""
    shown = [row for row in rows if row]
    kept = [row for row in shown if finite(row.get("low")) and row.get("system") not in REFERENCES]
    return span(row.get(key) for row in kept or shown for key in ("delta", "low", "high"))


def forest_plot(record: Record, scale: tuple[float, float]) -> str:
    """A row's difference and interval, on the scale of its table."""
    title = f"Difference {signed(record.get('delta'))}, interval {interval(record)}"
    return forest(title, record.get("delta"), record.get("low"), record.get("high"), scale)


def depth_plot(curve: Record, measure: str) -> str:
    """Quality against depth."""
    names = {"pipeline": "pipeline", "reranked": "reranker alone", "oracle": "oracle", "recall": "recall"}
    styles = {"pipeline": "strong", "reranked": "dashed", "oracle": "dotted", "recall": "plain"}
    depths: Sequence[float] = curve["depths"]
    lines = [Line(name, depths, curve[key], styles[key]) for key, name in names.items() if curve.get(key)]
    if finite(curve.get("first_stage")):
        lines.append(Line("first stage", depths, [curve["first_stage"]] * len(depths), "plain"))
    marks = _marks({"recommended": curve.get("recommended"), "knee": curve.get("knee")})
    title = f"{measure} of pipeline, reranker, oracle and first stage, and recall, at {len(depths)} depths"
    return line_chart(
        title, lines, x_label="depth: documents reranked", y_label=measure, log_x=True, marks=marks, height=330
    )


def latency_plot(curve: Record) -> str:
    """Latency against depth."""
    found = (("p95", "p95_ms", "dashed"), ("p50", "p50_ms", "strong"))
    lines = [Line(name, curve["depths"], curve[key], style) for name, key, style in found if curve.get(key)]
    marks = _marks({"recommended": curve.get("recommended")})
    title = "Latency at each depth, median and 95th percentile"
    return line_chart(title, lines, x_label="depth: documents reranked", y_label="ms", log_x=True, marks=marks)


def weight_plot(fusion: Record, measure: str) -> str:
    """Quality against the reranker's weight in the fusion."""
    points = sorted((float(weight), value) for weight, value in fusion["curve"].items())
    line = Line("", [weight for weight, _ in points], [value for _, value in points], "strong")
    marks = _marks({"chosen": fusion.get("weight")})
    title = f"{measure} at {len(points)} fusion weights"
    return line_chart(title, [line], x_label="weight of the reranker", y_label=measure, marks=marks)


def difference_plot(test: Record, measure: str) -> str:
    """The difference of each query, sorted."""
    title = f"Pipeline minus first stage in {measure} for {len(test['differences'])} queries, largest win first"
    return bars(title, test["differences"], x_label="queries, largest win first", y_label=f"difference in {measure}")


def reliability_plot(calibration: Record) -> str:
    """Calibrated probability against the share that is relevant."""
    bins = [(row["probability"], row["relevant"], row["count"]) for row in calibration["bins"]]
    return reliability(f"Reliability of the calibrated probability in {len(bins)} bins", bins)


def score_plot(scores: Record) -> str:
    """The distributions of the reranker's scores."""
    groups = {"relevant": scores["relevant"], "other": scores["other"]}
    title = "Distribution of the reranker’s scores for relevant and for other documents"
    return histogram(title, scores["edges"], groups, x_label="reranker score")


def risk_plot(answerability: Record) -> str:
    """Risk against coverage."""
    points = answerability["risk_coverage"]
    line = Line("", [coverage for coverage, _ in points], [risk for _, risk in points], "strong")
    label = "risk: first document not relevant"
    return line_chart("Risk at each coverage", [line], x_label="coverage: share of queries answered", y_label=label)


def _marks(positions: Mapping[str, Any]) -> dict[str, float]:
    """Marks by label with its position; those at the same position share one."""
    names: dict[float, list[str]] = {}
    for name, position in positions.items():
        if finite(position):
            names.setdefault(position, []).append(name)
    return {f"{' = '.join(found)} {position:g}": position for position, found in names.items()}


@cache
def _template() -> Template:
    found = environment()
    texts = (interval, p_value, milliseconds, duration)
    found.filters |= {function.__name__: function for function in texts}
    found.globals |= {function.__name__: function for function in (columns, by_measure, gain, bounds)}
    found.globals |= {"systems_in_words": SYSTEMS, "causes": CAUSES, "kinds": KINDS, "methods": METHODS}
    plots = (forest_plot, depth_plot, latency_plot, weight_plot, difference_plot, reliability_plot, score_plot)
    add_charts(found, *plots, risk_plot, bar)
    return found.from_string(TEMPLATE.read_text(encoding="utf-8"))
