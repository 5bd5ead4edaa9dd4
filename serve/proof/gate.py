"""The gate: may this pipeline be shipped? Every rule gives its reason in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from secondstage.config import GateConfig

from ..fuse import MEASURE
from ..verdict import Verdict

FREE_OF = {
    "documents": "that share neither text nor relevant document with train or dev",
    "queries": "that share no text with train or dev",
}


WHOSE = {"pipeline": "the pipeline", "reranked": "the reranker alone"}
# Of fewer queries the luck of each decides, and the interval is too bold.
FEWEST = 10


class Check(NamedTuple):
    """One rule.

    Attributes:
        name: "gain", "latency", or "export …".
        passed: whether it is kept.
        text: what was found, against what was asked.
    """

    name: str
    passed: bool
    text: str


def judge(metrics: Mapping[str, Any], config: GateConfig, latency_ms: float | None) -> tuple[Verdict, list[Check]]:
    """Judge an evaluation by its first test set.

    Args:
        metrics: what `metrics.json` holds, but the verdict.
        config: the margins.
        latency_ms: what a search may take at the 95th percentile; none for no limit.
    """
    checks = [check_gain(next(iter(metrics["test_sets"].values())), config)]
    if latency_ms is not None:
        checks.append(check_latency(metrics["latency"]["p95_ms"], latency_ms))
    checks += [check_export(name, found, config) for name, found in metrics["exports"].items()]
    return Verdict(all(check.passed for check in checks), _sentence(metrics, checks)), checks


def check_gain(tested: Mapping[str, Any], config: GateConfig) -> Check:
    """The lower bound of the gain must lie above the margin, on all queries and on those that nothing gave away."""
    whole = gain_of(tested)
    judged, which = whole, "the only query" if whole["queries"] == 1 else f"the {whole['queries']} queries"
    if config.leaks != "ignore" and tested["leakage"]["free_of"][config.leaks] != whole["queries"]:
        free = tested["leakage"]["free" if config.leaks == "documents" else "free_of_text"]
        count = tested["leakage"]["free_of"][config.leaks]
        which = f"the {count} of {whole['queries']} queries {FREE_OF[config.leaks]}"
        if free is None:
            text = f"there are no queries {FREE_OF[config.leaks]}: nothing shows that the gain is not a leak"
            return Check("gain", False, text + _other_level(config))
        judged = free
    if judged["queries"] < FEWEST:
        return Check("gain", False, f"{which}: fewer than {FEWEST} show nothing")
    passed = min(judged["low"], whole["low"]) > config.margin
    text = (
        f"on {which}, {MEASURE} changes by {judged['delta']:+.4f}, and its lower bound {judged['low']:+.4f} is "
        f"{'above' if judged['low'] > config.margin else 'not above'} the margin {config.margin:g}"
    )
    if judged is not whole and whole["low"] <= config.margin:
        text += f"; on all {whole['queries']} queries the lower bound {whole['low']:+.4f} is not above it"
    if not passed and judged is not whole and whole["low"] > config.margin:
        text += f"; the gain of {whole['delta']:+.4f} on all queries may be the leak's" + _other_level(config)
    return Check("gain", passed, text)


def check_latency(p95_ms: float, budget_ms: float) -> Check:
    """The 95th percentile of a search's time must keep the budget."""
    passed = p95_ms <= budget_ms
    kept = "within" if passed else "beyond"
    text = f"95 % of searches take at most {p95_ms:.0f} ms, {kept} the budget of {budget_ms:g} ms (serve.latency_ms)"
    return Check("latency", passed, text)


def check_export(name: str, found: Mapping[str, Any], config: GateConfig) -> Check:
    """A copy of the reranker in another form must rank nearly as well."""
    passed = -found["delta"] <= config.export_loss
    text = (
        f"with the export {name}, {MEASURE} of {WHOSE[found['order']]} changes by {found['delta']:+.4f}; "
        f"it may lose {config.export_loss:g} "
        "(evaluate.gate.export_loss)"
    )
    return Check(f"export {name}", passed, text)


def gain_of(tested: Mapping[str, Any]) -> Mapping[str, Any]:
    """The pipeline against the first stage."""
    found: Mapping[str, Any] = next(
        row
        for row in tested["comparisons"]
        if (row["system"], row["baseline"], row["measure"]) == ("pipeline", "first_stage", MEASURE)
    )
    return found


def _other_level(config: GateConfig) -> str:
    if config.leaks != "documents":
        return ""
    return (
        " (if the pipeline will meet new queries about the very documents that train is about, set "
        "evaluate.gate.leaks: queries)"
    )


def _sentence(metrics: Mapping[str, Any], checks: list[Check]) -> str:
    sets = metrics["test_sets"]
    name, tested = next(iter(sets.items()))
    found = gain_of(tested)
    means = (tested["systems"][system]["measures"][MEASURE] for system in ("first_stage", "pipeline"))
    figures = "{:.3f} → {:.3f}".format(*means) + f", {found['delta']:+.3f}"
    if found["low"] is not None:
        figures += f" ({100 * metrics['confidence']:g} % interval {found['low']:+.3f} to {found['high']:+.3f})"
    refused = [check.text for check in checks if not check.passed]
    if refused:
        return f"Do not ship: {'; '.join(refused)}. On {name}, {MEASURE} goes {figures}."
    worse = [other for other in sets if (gain_of(sets[other])["high"] or 0) < 0]
    free = tested["leakage"]["free"]
    if free is not None and free["queries"] < found["queries"]:
        figures += f"; on the {free['queries']} queries without a leak {free['delta']:+.3f}"
    but = f" But it is worse than the first stage on {', '.join(worse)}." if worse else ""
    # A negative margin lets a pipeline through that is not proven better.
    verb = "beats" if (found["low"] or 0) > 0 else "keeps its margin to"
    return f"Ship: on {name} the pipeline {verb} the first stage, {MEASURE} {figures}.{but}"
