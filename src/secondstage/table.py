"""The proof as text: what `metrics.json` says, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = {"first_stage": "first stage", "reranked": "reranked", "pipeline": "pipeline"}


def render(metrics: Mapping[str, Any]) -> str:
    """The systems of each split as a table, and the pipeline's gain with its interval."""
    parts = [_split(metrics), *(_split(extra) for extra in metrics.get("extra_splits", {}).values())]
    if "seconds" in metrics:
        parts.append("seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in metrics["seconds"].items()))
    return "\n\n".join(parts)


def _split(metrics: Mapping[str, Any]) -> str:
    systems: Mapping[str, Mapping[str, float]] = metrics["systems"]
    # The lists end at the depth: what a measure would count below it is not there.
    measures = [m for m in next(iter(systems.values())) if int(m.partition("@")[2]) <= metrics["depth"]]
    order = sorted(systems, key=lambda name: systems[name]["nDCG@10"])
    lines = [f"{metrics['split']}: {metrics['queries']} queries, {metrics['depth']} candidates each"]
    lines.append("  " + f"{'':12}" + "".join(f"{measure:>9}" for measure in measures))
    lines += [f"  {NAMES.get(name, name):12}" + "".join(f"{systems[name][m]:9.4f}" for m in measures) for name in order]
    ceiling = metrics["ceiling"]
    lines.append(f"  a perfect reranker of these candidates would reach nDCG@10 {ceiling['oracle_nDCG@10']:.4f}")
    for pair, values in metrics["comparisons"].items():
        system, baseline = pair.split("_vs_")
        if system == "pipeline":
            lines.append("  " + _sentence(NAMES.get(baseline) or baseline, values["nDCG@10"]))
    return "\n".join(lines)


def _sentence(baseline: str, found: Mapping[str, Any]) -> str:
    interval = next(key for key in found if key.startswith("ci"))
    low, high = found[interval]
    if not found["wins"] and not found["losses"]:
        return f"pipeline is exactly as good as {baseline} on every query"
    verdict = "better than" if low > 0 else "worse than" if high < 0 else "not proven different from"
    return (
        f"pipeline is {verdict} {baseline}: nDCG@10 {found['delta']:+.4f} "
        f"({interval[2:]} % interval {low:+.4f} to {high:+.4f}, p = {found['p']:.4f}; "
        f"{found['wins']} wins, {found['ties']} ties, {found['losses']} losses)"
    )
