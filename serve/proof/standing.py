"""Where every system stands on a test set: means, paired comparisons, the ceiling, and parts of the set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from secondstage.collection import Qrels
from secondstage.config import TEACHER, EvaluateConfig
from secondstage.measures import Values, evaluate, mean
from secondstage.run import Run
from secondstage.significance import Comparison, compare, compare_pairs, holm

from ..depth import finite
from ..fuse import MEASURE
from .systems import BASELINE

COMPARED = (MEASURE, "RR@10")
# The two that show that the arithmetic is right and the bound itself are not among the questions asked.
NOT_ASKED = ("identity", "oracle")

Standing = dict[str, dict[str, Values]]
"""Values by system, by measure, by query id."""


def measures_at(depth: int) -> tuple[str, ...]:
    """The measures of a report on lists of this depth; cut-offs below the lists' end would say nothing."""
    names = ("nDCG@5", MEASURE, "nDCG@20", "RR@10", "R@5", "R@10", "Success@1", "Success@5", "Success@10", "Judged@10")
    kept = [name for name in names if name == MEASURE or int(name.partition("@")[2]) <= depth]
    return tuple(dict.fromkeys((*kept, *COMPARED, f"AP@{depth}", f"R@{depth}")))


def standing(runs: Mapping[str, Run], qrels: Qrels, measures: Iterable[str]) -> Standing:
    """Every measure of every system. A system that was run on a sample of the queries is scored on the sample alone."""
    measures = tuple(measures)
    return {
        name: evaluate(run, {query_id: qrels[query_id] for query_id in qrels if query_id in run}, measures)
        for name, run in runs.items()
    }


def systems(found: Standing) -> dict[str, Any]:
    """The means."""
    return {
        name: {
            "queries": len(values[MEASURE]),
            "measures": {measure: mean(by_query) for measure, by_query in values.items()},
        }
        for name, values in found.items()
    }


def comparisons(found: Standing, config: EvaluateConfig, *, seed: int) -> list[dict[str, Any]]:
    """Every system against the first stage, the pipeline also against each part of a hybrid.

    Each is paired over the queries that both have. P values are adjusted over the systems (Holm).
    """
    pairs: dict[tuple[str, str, str], tuple[Values, Values]] = {}
    for measure in COMPARED:
        values = {name: by_measure[measure] for name, by_measure in found.items()}
        for system, baseline in _asked(found):
            shared = {query_id: value for query_id, value in values[baseline].items() if query_id in values[system]}
            pairs[measure, system, baseline] = (values[system], shared)
    results: dict[tuple[str, str, str], Comparison] = {}
    for queries in {frozenset(system) for system, _ in pairs.values()}:
        together = {key: pair for key, pair in pairs.items() if pair[0].keys() == queries}
        results |= compare_pairs(together, confidence=config.confidence, resamples=config.resamples, seed=seed)
    adjusted: dict[tuple[str, str, str], float] = {}
    for measure in COMPARED:
        adjusted |= holm({key: result.p for key, result in results.items() if key[0] == measure})
    rows = []
    for key, pair in pairs.items():
        measure, system, baseline = key
        best = found["oracle"][MEASURE] if measure == MEASURE and "oracle" in found else {}
        row = {"system": system, "baseline": baseline, "measure": measure}
        result = results[key]._replace(p_holm=adjusted[key])
        rows.append(row | _row(result) | {"gap_closed": gap_closed(*pair, best)})
    return rows


def _asked(found: Standing) -> list[tuple[str, str]]:
    against_first = [(name, BASELINE) for name in found if name not in (BASELINE, *NOT_ASKED)]
    alone = [name for name in ("bm25", "dense", "sparse") if name in found and "pipeline" in found]
    return against_first + [("pipeline", name) for name in alone]


def gap_closed(system: Values, baseline: Values, best: Values) -> float | None:
    """The share of what a perfect reranker of the same lists would gain; none where there is nothing to gain."""
    shared = [query_id for query_id in system if query_id in baseline and query_id in best]
    gain = sum(system[query_id] - baseline[query_id] for query_id in shared)
    possible = sum(best[query_id] - baseline[query_id] for query_id in shared)
    return gain / possible if possible > 1e-9 else None


def gain_kept(found: Standing) -> dict[str, Any] | None:
    """How much of the teacher's gain over the first stage the reranker has; none where no teacher is compared with.

    The share is none where the teacher gains nothing.
    """
    if TEACHER not in found:
        return None
    values = {name: found[name][MEASURE] for name in (BASELINE, TEACHER, "reranked")}
    first, teacher, student = (mean({query_id: v[query_id] for query_id in values[TEACHER]}) for v in values.values())
    share = (student - first) / (teacher - first) if teacher - first > 1e-9 else None
    return {
        "queries": len(values[TEACHER]),
        "first_stage": first,
        "teacher": teacher,
        "reranked": student,
        "share": share,
    }


def part(found: Standing, query_ids: Iterable[str], config: EvaluateConfig, *, seed: int) -> dict[str, Any] | None:
    """The pipeline against the first stage on some of the queries; none if there are none."""
    kept = set(query_ids)
    first, pipeline = (
        {query_id: value for query_id, value in found[name][MEASURE].items() if query_id in kept}
        for name in (BASELINE, "pipeline")
    )
    if not first:
        return None
    result = compare(pipeline, first, confidence=config.confidence, resamples=config.resamples, seed=seed)
    return {"first_stage": mean(first), "pipeline": mean(pipeline), **_row(result)}


def _row(found: Comparison) -> dict[str, Any]:
    return {
        "queries": found.queries,
        "delta": found.delta,
        "low": finite(found.low),
        "high": finite(found.high),
        "p": found.p,
        "p_holm": found.p_holm,
        "wins": found.wins,
        "ties": found.ties,
        "losses": found.losses,
        "sd": finite(found.sd),
        "detectable": finite(found.detectable),
    }
