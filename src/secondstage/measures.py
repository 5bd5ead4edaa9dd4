"""Ranking measures per query, as trec_eval and ir_measures define them.

A query's list is scored against all of its judgements: positives that the first stage missed stay in the denominator.
Unjudged documents count as not relevant; `Judged@k` says how many there are. A judged query that a run does not answer
scores zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from .collection import Qrels
from .errors import UserError
from .run import Run

Values = dict[str, float]
"""A measure's value by query id."""
Gains = npt.NDArray[np.float64]
DEFAULT = ("nDCG@10", "RR@10", "R@50")


def ndcg(gains: Gains, ideal: Gains, cutoff: int) -> float:
    """nDCG@cutoff (Järvelin and Kekäläinen 2002), linear gain, discount log2(rank + 1).

    Args:
        gains: `[n]` relevance of the ranked documents, best first; not a number for an unjudged one.
        ideal: `[positives]` relevance of all relevant documents, in falling order.
        cutoff: ranks that count.
    """
    best = _dcg(ideal[:cutoff])
    return _dcg(gains[:cutoff]) / best if best else 0.0


def reciprocal_rank(gains: Gains, ideal: Gains, cutoff: int) -> float:
    """1 / rank of the first relevant document within the cutoff, else 0. Its mean is MRR."""
    hits = np.flatnonzero(gains[:cutoff] > 0)
    return 1.0 / float(hits[0] + 1) if len(hits) else 0.0


def recall(gains: Gains, ideal: Gains, cutoff: int) -> float:
    """Share of the relevant documents that are ranked within the cutoff."""
    return float((gains[:cutoff] > 0).sum() / len(ideal)) if len(ideal) else 0.0


def average_precision(gains: Gains, ideal: Gains, cutoff: int) -> float:
    """Precision at the rank of each relevant document within the cutoff, over all relevant ones. Its mean is MAP."""
    hits = gains[:cutoff] > 0
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    return float(precision[hits].sum() / len(ideal)) if len(ideal) else 0.0


def success(gains: Gains, ideal: Gains, cutoff: int) -> float:
    """1 if a relevant document is ranked within the cutoff, else 0."""
    return float((gains[:cutoff] > 0).any())


def judged(gains: Gains, ideal: Gains, cutoff: int) -> float:
    """Share of the documents within the cutoff that the qrels judge, relevant or not; 0 for an empty list."""
    top = gains[:cutoff]
    return float((~np.isnan(top)).mean()) if len(top) else 0.0


MEASURES: dict[str, Callable[[Gains, Gains, int], float]] = {
    "nDCG": ndcg,
    "RR": reciprocal_rank,
    "R": recall,
    "AP": average_precision,
    "Success": success,
    "Judged": judged,
}


def evaluate(run: Run, qrels: Qrels, measures: Iterable[str] = DEFAULT) -> dict[str, Values]:
    """Every measure for every query that has a relevant document.

    Args:
        run: what is evaluated.
        qrels: the judgements; queries without a relevant document are left out, as no order of theirs is better.
        measures: names such as "nDCG@10", "RR@10", "R@50", "AP@100", "Success@1", "Judged@10".

    Raises:
        UserError: an unknown measure.
    """
    functions = {name: _parse(name) for name in measures}
    values: dict[str, Values] = {name: {} for name in functions}
    for query_id, relevance in qrels.items():
        ideal = np.array(sorted((r for r in relevance.values() if r > 0), reverse=True), dtype=np.float64)
        if not len(ideal):
            continue
        doc_ids: Sequence[str] = run[query_id].doc_ids if query_id in run else ()
        gains = np.array([relevance.get(doc_id, np.nan) for doc_id in doc_ids], dtype=np.float64)
        for name, (function, cutoff) in functions.items():
            values[name][query_id] = function(gains, ideal, cutoff)
    return values


def mean(values: Values) -> float:
    """The mean over queries; 0 for no query."""
    return float(np.mean(list(values.values()))) if values else 0.0


def _dcg(gains: Gains) -> float:
    # Below zero, as TREC judges spam, is not worse than not relevant.
    return float((np.fmax(gains, 0) / np.log2(np.arange(2, len(gains) + 2))).sum())


def _parse(name: str) -> tuple[Callable[[Gains, Gains, int], float], int]:
    match = re.fullmatch(r"(\w+)@([1-9]\d*)", name)
    if not match or match[1] not in MEASURES:
        raise UserError(f"unknown measure {name!r}: known are {', '.join(f'{known}@k' for known in MEASURES)}")
    return MEASURES[match[1]], int(match[2])
