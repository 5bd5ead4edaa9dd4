"""The proof as text: what `metrics.json` says, for people at a terminal; the whole of it is in `report.html`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NAMES = {"first_stage": "first stage"}
# The identity is the first stage by construction, and is checked to be; the rest of the measures are in the report.
HIDDEN = ("identity",)
MEASURES = ("nDCG@10", "RR@10", "R@10", "Success@1", "Judged@10")


def render(metrics: Mapping[str, Any]) -> str:
    """The verdict, each test set with its systems and comparisons, and what everything took."""
    parts = [metrics["verdict"]["sentence"]]
    parts += [_test_set(tested, metrics["confidence"]) for tested in metrics["test_sets"].values()]
    latency = metrics["latency"]
    parts.append(
        f"a search takes {latency['p50_ms']:.0f} ms (95 %: {latency['p95_ms']:.0f} ms) at depth {metrics['depth']}, "
        f"the first stage alone {latency['first_stage_p50_ms']:.0f} ms"
    )
    parts.append("seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in metrics["seconds"].items()))
    return "\n\n".join(parts)


def columns(rows: Mapping[str, Mapping[str, float]], measures: Sequence[str]) -> list[str]:
    """Lines of a table of values by system and measure, the lowest first."""
    width = max(12, *(len(NAMES.get(name, name)) for name in rows))
    widths = [max(9, len(measure) + 2) for measure in measures]
    lines = ["  " + " " * width + "".join(f"{m:>{w}}" for m, w in zip(measures, widths, strict=True))]
    for name in sorted(rows, key=lambda name: rows[name][measures[0]]):
        values = (f"{rows[name][m]:{w}.4f}" for m, w in zip(measures, widths, strict=True))
        lines.append(f"  {NAMES.get(name, name):{width}}" + "".join(values))
    return lines


def _test_set(tested: Mapping[str, Any], confidence: float) -> str:
    shown = {name: row for name, row in tested["systems"].items() if name not in HIDDEN}
    depth = next(int(m[2:]) for row in shown.values() for m in reversed(row["measures"]) if m.startswith("R@"))
    measures = [m for m in (*MEASURES, f"R@{depth}") if all(m in row["measures"] for row in shown.values())]
    lines = [f"{tested['split']}: {tested['queries']} queries ({tested['origin']}), {depth} candidates each"]
    lines += columns({name: row["measures"] for name, row in shown.items()}, list(dict.fromkeys(measures)))
    sampled = {name: row["queries"] for name, row in shown.items() if row["queries"] < tested["queries"]}
    if sampled:
        lines.append("  on a sample: " + ", ".join(f"{name} {count} queries" for name, count in sampled.items()))
    lines += [f"  {note}" for note in tested["notes"]]
    rows = [row for row in tested["comparisons"] if row["measure"] == "nDCG@10"]
    lines += [f"  {sentence(row, confidence)}" for row in rows if row["system"] != "random"]
    lines += _random(rows)
    lines += gain_kept(tested.get("gain_kept"))
    return "\n".join([*lines, *_leaks(tested, confidence), *_causes(tested)])


def sentence(found: Mapping[str, Any], confidence: float) -> str:
    """One comparison in words."""
    system, baseline = (NAMES.get(found[key], found[key]) for key in ("system", "baseline"))
    if not found["wins"] and not found["losses"]:
        return f"{system} is exactly as good as {baseline} on every query"
    if found["low"] is None:
        return f"{system} against {baseline}: {found['measure']} {found['delta']:+.4f} on one query: nothing is shown"
    shown = found["p_holm"] < 1 - confidence
    verdict = ("better than" if found["delta"] > 0 else "worse than") if shown else "not proven different from"
    text = (
        f"{system} is {verdict} {baseline}: {found['measure']} {found['delta']:+.4f} "
        f"({100 * confidence:g} % interval {found['low']:+.4f} to {found['high']:+.4f}, p = {found['p_holm']:.4f}; "
        f"{found['wins']} wins, {found['ties']} ties, {found['losses']} losses)"
    )
    if verdict == "not proven different from":
        text += f"; {found['queries']} queries detect {found['detectable']:.4f}"
    return text


def gain_kept(found: Mapping[str, Any] | None) -> list[str]:
    """What the reranker has of its teacher's gain, in words; nothing where there is no teacher."""
    if not found:
        return []
    gains = (
        f"{found['reranked'] - found['first_stage']:+.4f} of {found['teacher'] - found['first_stage']:+.4f} nDCG@10 on "
        f"{found['queries']} queries"
    )
    if found["share"] is None:
        return [f"  the teacher gains nothing over the first stage here, so nothing can be kept: {gains}"]
    return [f"  reranked keeps {100 * found['share']:.1f} % of the teacher's gain over the first stage: {gains}"]


def _random(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [row for row in rows if row["system"] == "random" and (row["high"] is None or row["high"] >= 0)]
    return ["  a random order is not proven worse than the first stage: this test set cannot tell systems apart"] * len(
        found
    )


def _leaks(tested: Mapping[str, Any], confidence: float) -> list[str]:
    leakage = tested["leakage"]
    counts = leakage["counts"]
    if not counts["any"]:
        return []
    lines = [
        f"  leaks: of {tested['queries']} queries, {counts['same_text']} have the text of a query in "
        f"{' or '.join(leakage['against'])}, {counts['near_duplicate']} nearly so, {counts['document']} share a "
        "relevant document"
    ]
    free = leakage["free"]
    if free is None:
        return [*lines, "  no query is free of leaks"]
    row = free | {"system": "pipeline", "baseline": "first_stage", "measure": "nDCG@10"}
    return [*lines, f"  on the {free['queries']} without a leak: {sentence(row, confidence)}"]


def _causes(tested: Mapping[str, Any]) -> list[str]:
    found = tested["diagnosis"]
    if not found or not found["failed"]:
        return []
    causes = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in found["counts"].items() if count)
    return [f"  {found['failed']} queries without a relevant document in the top {found['cutoff']}: {causes}"]
