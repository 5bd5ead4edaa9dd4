"""Can a score be believed? Calibration of single documents, and whether a list holds a relevant one at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from secondstage.answerability import Answerability, auroc, risk_coverage
from secondstage.calibrate import crossfitted
from secondstage.calibration import Calibration, sigmoid
from secondstage.collection import Qrels
from secondstage.reliability import expected_calibration_error, reliability
from secondstage.run import Run

from ..cascade import Runs
from ..choices import Barren, Labelled, both_scores, has_relevant, label
from ..pipeline import Pipeline

HISTOGRAM_BINS = 30


def calibration(
    reranked: Run, qrels: Qrels, pipeline: Pipeline, *, seed: int, on_dev: bool = True
) -> dict[str, Any] | None:
    """How far the probabilities hold on a test set.

    A reranker that was never calibrated, or on another collection than this (`on_dev` is false: dev fitted none), is
    calibrated here, each query by the others; `ece_inherited` is what its own calibration gives.

    Returns:
        ECE of calibrated probabilities, of the plain sigmoid, and of the documents ranked first; the reliability bins
        and a histogram of scores. None if all candidates are relevant, or none is.
    """
    labelled = label(reranked, qrels)
    if not labelled.relevant.any() or labelled.relevant.all():
        return None
    own = pipeline.reranker.calibration
    if own is not None and on_dev:
        method, basis, fitted_on = str(own.method), str(own.basis), "dev"
        probabilities = own.of_lists(labelled.scores, labelled.queries)
    else:
        method, basis, fitted_on = "cross-fitted", "", "this test set, each query by the others"
        try:
            probabilities = crossfitted(labelled.scores, labelled.relevant, labelled.queries, seed=seed)
        except ValueError:  # so few queries that none can be left out
            return None
    top = labelled.starts
    return {
        "method": method,
        "basis": basis,
        "fitted_on": fitted_on,
        "pairs": len(labelled.queries),
        "ece": expected_calibration_error(probabilities, labelled.relevant),
        "ece_inherited": None if own is None or on_dev else _own_error(own, labelled),
        "ece_raw": expected_calibration_error(sigmoid(labelled.scores), labelled.relevant),
        "ece_top": expected_calibration_error(probabilities[top], labelled.relevant[top]),
        "bins": [
            {"probability": found.probability, "relevant": found.relevant, "count": found.pairs}
            for found in reliability(probabilities, labelled.relevant)
        ],
        "histogram": histogram(labelled),
    }


def _own_error(own: Calibration, labelled: Labelled) -> float:
    return expected_calibration_error(own.of_lists(labelled.scores, labelled.queries), labelled.relevant)


def histogram(labelled: Labelled) -> dict[str, Any]:
    """How the scores of relevant and of other candidates are spread, over the middle 99.8 % of their range."""
    low, high = np.quantile(labelled.scores, (0.001, 0.999))
    edges = np.linspace(low, high if high > low else low + 1, HISTOGRAM_BINS + 1)
    inside = np.clip(labelled.scores, edges[0], edges[-1])
    return {
        "edges": edges.tolist(),
        "relevant": np.histogram(inside[labelled.relevant], edges)[0].tolist(),
        "other": np.histogram(inside[~labelled.relevant], edges)[0].tolist(),
    }


def answerability(
    runs: Runs, qrels: Qrels, found: Answerability | None, barren: Barren | None
) -> dict[str, Any] | None:
    """How well lists with a relevant document are told from those of the same queries without any.

    Returns:
        AUROC, the threshold that dev chose, the shares that it keeps and refuses, and the risk–coverage curve. None if
        nothing was fitted, or no list holds a relevant document.
    """
    answered = has_relevant(runs.first_stage, qrels)
    if found is None or barren is None or not answered:
        return None
    both = both_scores(runs.first_stage, runs.reranked)
    with_relevant = [both[query_id] for query_id in both if query_id in answered]
    without = list(both_scores(barren.first_stage, barren.reranked).values())
    kept, refused = (np.array([found.confidence(scores) for scores in lists]) for lists in (with_relevant, without))
    confidences, correct = _first_documents(runs, qrels, found)
    return {
        "auroc": auroc(kept, refused),
        "threshold": found.threshold,
        "answerable": len(kept),
        "unanswerable": len(refused),
        "kept_answerable": float((kept >= found.threshold).mean()),
        "refused_unanswerable": float((refused < found.threshold).mean()),
        "risk_coverage": [list(point) for point in risk_coverage(confidences, correct)],
    }


def _first_documents(
    runs: Runs, qrels: Qrels, found: Answerability
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    answered = [query_id for query_id, ranking in runs.pipeline.items() if ranking.doc_ids]
    scores = both_scores(runs.first_stage, runs.reranked)
    confidences = [found.confidence(scores[query_id]) for query_id in answered]
    correct = [qrels[query_id].get(runs.pipeline[query_id].doc_ids[0], 0) > 0 for query_id in answered]
    return np.array(confidences), np.array(correct, dtype=bool)
