"""What is chosen on dev: depth, fusion weight, calibration, and the threshold for "no relevant document"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from secondstage.answerability import Answerability
from secondstage.answerability import fit as fit_answerability
from secondstage.calibrate import choose
from secondstage.calibration import Calibration
from secondstage.collection import Qrels
from secondstage.config import ServeConfig
from secondstage.progress import say
from secondstage.run import Ranking, Run

from .depth import Timing, depths_up_to, describe, recommend, sweep
from .fuse import MEASURE, choose_weight, reordered

# Where nothing can be measured, both stages count the same, over as many candidates as is usual.
WEIGHT_WITHOUT_DEV = 0.5
DEPTH_WITHOUT_DEV = 50
# Dev queries below which a gain that matters may not show (LOG.md, few labels): it is said.
FEW = 100


class Choices(NamedTuple):
    """What the bundle will use.

    Attributes:
        depth: candidates that are reranked.
        weight: the reranker's share.
        calibration: of the reranker's logits; none without dev.
        answerability: of whole lists; none without dev.
        details: how they were chosen, for the manifest.
    """

    depth: int
    weight: float
    calibration: Calibration | None
    answerability: Answerability | None
    details: dict[str, Any]


class Barren(NamedTuple):
    """What both stages make of queries whose relevant documents are not in the corpus."""

    first_stage: Run
    reranked: Run


class Labelled(NamedTuple):
    """The candidates of several queries in one row.

    Attributes:
        scores: `[n]` logits.
        relevant: `[n]` whether the qrels call them relevant.
        queries: `[n]` query ids.
    """

    scores: npt.NDArray[np.float64]
    relevant: npt.NDArray[np.bool_]
    queries: list[str]

    @property
    def starts(self) -> list[int]:
        """Where the candidates of each query begin, the best first."""
        return [i for i, query_id in enumerate(self.queries) if i == 0 or query_id != self.queries[i - 1]]


def without_dev(config: ServeConfig) -> Choices:
    """What is used where there is no dev split."""
    depth = depths_tried(config)[0] if config.cascade or config.depth else min(DEPTH_WITHOUT_DEV, config.max_depth)
    weight = WEIGHT_WITHOUT_DEV if config.weight is None else config.weight
    chosen_on = "nothing: there is no dev split" if config.weight is None else "the configuration"
    given = (
        "the configuration's"
        if config.weight is not None and (config.depth or config.cascade)
        else "guesses, where none is given"
    )
    say(
        f"  no dev query tells whether the reranker helps: depth {depth} and fusion weight {weight:.2f} are {given}. "
        "Label some queries (qrels/dev.tsv) to have them chosen; serve.fallback=true keeps the first stage's order "
        "until a proof lets the pipeline through"
    )
    return Choices(depth, weight, None, None, {"fusion": {"weight": weight, "chosen_on": chosen_on}, "depth": None})


def choose_on_dev(
    first: Run,
    reranked: Run,
    qrels: Qrels,
    config: ServeConfig,
    timings: Mapping[int, Timing],
    *,
    seed: int,
    barren: Barren,
) -> Choices:
    """Choose everything from the dev lists.

    Args:
        first: the first stage's lists, `config.deepest` long; of a cascade, what its last reranker reads of them.
        reranked: the same candidates in the reranker's order.
        qrels: of the same queries.
        config: what is fixed, and the latency budget.
        timings: of a search at each depth, needed where there is a latency budget.
        seed: of the folds of the calibration.
        barren: the lists of the same queries without any relevant document.
    """
    depths = depths_tried(config)
    curve = sweep(first, reranked, qrels, depths, config.weight)
    p95 = [timings[depth].p95 for depth in depths] if config.latency_ms else None
    depth = recommend(curve, p95, config.latency_ms)
    fusion = _fusion(first, reranked, qrels, depth, config)
    labelled = label(reranked_head(first, reranked, depth), qrels)
    both = labelled.relevant.any() and not labelled.relevant.all()
    return Choices(
        depth,
        fusion["weight"],
        choose(labelled.scores, labelled.relevant, labelled.queries, seed=seed) if both else None,
        _threshold(first, reranked, qrels, depth, barren) if both else None,
        {"fusion": fusion, "depth": describe(curve, timings, depth)},
    )


def depths_tried(config: ServeConfig) -> tuple[int, ...]:
    """The depths that are chosen from: the one that is fixed, or all up to the deepest."""
    if config.cascade:
        return (config.cascade[-1].depth,)
    return depths_up_to(config.max_depth) if config.depth is None else (config.depth,)


def depths_to_time(config: ServeConfig) -> tuple[int, ...]:
    """The depths whose time decides; none without a latency budget."""
    return () if config.latency_ms is None else depths_tried(config)


def reranked_head(first: Run, reranked: Run, depth: int) -> Run:
    """The reranker's scores of the first stage's first `depth` documents."""

    def scores(query_id: str, head: Ranking) -> npt.NDArray[np.float64]:
        return reranked[query_id].scores_of(head.doc_ids).astype(np.float64)

    return reordered(first.top(depth), scores, None, "reranked")


def label(run: Run, qrels: Qrels) -> Labelled:
    """Say of every candidate of a run whether it is relevant; what nobody judged is not."""
    pairs = list(run.pairs())
    scores = [ranking.scores for ranking in run.values()]
    return Labelled(
        np.concatenate(scores).astype(np.float64) if scores else np.zeros(0),
        np.array([qrels.get(query_id, {}).get(doc_id, 0) > 0 for query_id, doc_id in pairs], dtype=bool),
        [query_id for query_id, _ in pairs],
    )


def both_scores(first: Run, reranked: Run, depth: int | None = None) -> dict[str, npt.NDArray[np.float64]]:
    """Scores of both stages over the first `depth` documents by query id: `[2, n]`, the reranker's in the first row."""
    heads = {query_id: ranking.cut(depth) for query_id, ranking in first.items()}
    return {
        query_id: np.stack([reranked[query_id].scores_of(head.doc_ids), head.scores]).astype(np.float64)
        for query_id, head in heads.items()
    }


def has_relevant(run: Run, qrels: Qrels, depth: int | None = None) -> set[str]:
    """The ids of the queries with a relevant document among the first `depth`."""
    pairs = run.pairs() if depth is None else run.top(depth).pairs()
    return {query_id for query_id, doc_id in pairs if qrels.get(query_id, {}).get(doc_id, 0) > 0}


def _threshold(first: Run, reranked: Run, qrels: Qrels, depth: int, barren: Barren) -> Answerability | None:
    found, scores = has_relevant(first, qrels, depth), both_scores(first, reranked, depth)
    unanswerable = list(both_scores(barren.first_stage, barren.reranked, depth).values())
    if not any(each.size for each in unanswerable):
        return None
    return fit_answerability([scores[query_id] for query_id in first if query_id in found], unanswerable)


def _fusion(first: Run, reranked: Run, qrels: Qrels, depth: int, config: ServeConfig) -> dict[str, Any]:
    if config.weight is not None:
        return {"weight": config.weight, "chosen_on": "the configuration"}
    choice = choose_weight(first, reranked, qrels, depth)
    say(
        f"  depth {depth}, fusion weight {choice.weight:.2f}: dev {MEASURE} {choice.value:.4f} "
        f"(first stage {choice.curve[0.0]:.4f}, reranked {choice.curve[1.0]:.4f}, {len(qrels)} queries)"
    )
    if choice.weight == 0:
        few = f": {len(qrels)} dev queries show little, and the gate judges it on test, once"
        say(
            f"  the best weight gains {choice.gain:+.4f} on dev, no more than its standard error {choice.error:.4f}: "
            f"the {'last of the cascade' if config.cascade else 'pipeline'} keeps the first stage's order "
            f"(serve.weight sets another{few if len(qrels) < FEW else ''})"
        )
    return {
        "weight": choice.weight,
        "chosen_on": "dev",
        "queries": len(qrels),
        "gain": choice.gain,
        "standard_error": choice.error,
        "curve": {f"{weight:.2f}": value for weight, value in choice.curve.items()},
    }
