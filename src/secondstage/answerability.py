"""Is there a relevant document among a query's candidates at all? A confidence from the scores of both stages.

A query is answerable if its list holds a relevant document. Scores are given as a matrix `[scorers, n]`, the reranker's
in the first row, the first stage's in the second, of the same candidates in any order; `[n]` is the reranker's alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .calibration import finite, sigmoid
from .errors import UserError
from .reliability import Floats

# Of each scorer.
FEATURES = 3


class Answerability(NamedTuple):
    """A logistic regression over `features`, and the confidence from which on a query counts as answerable.

    Attributes:
        weights: `[3 × scorers]` of the features. They are correlated, so that one alone may well be negative.
        bias: added to the weighted sum.
        threshold: in 0 … 1.
    """

    weights: tuple[float, ...]
    bias: float
    threshold: float

    def confidence(self, scores: npt.ArrayLike) -> float:
        """The probability that a list with these scores holds a relevant document; 0 for no score.

        Rows of scorers that nothing was fitted on are passed over. It is a probability where answerable and other
        queries come in the proportion of those it was fitted on.
        """
        values = np.atleast_2d(np.asarray(scores, np.float64))[: len(self.weights) // FEATURES]
        if not values.size:
            return 0.0
        terms = zip(self.weights, features(values).tolist(), strict=True)
        return float(sigmoid(self.bias + sum(weight * feature for weight, feature in terms)))

    def answerable(self, scores: npt.ArrayLike) -> bool:
        """Whether the confidence reaches the threshold; never of an empty list."""
        return bool(np.size(scores)) and self.confidence(scores) >= self.threshold

    def to_json(self) -> dict[str, object]:
        """What `from_json` reads."""
        return {"weights": list(self.weights), "bias": self.bias, "threshold": self.threshold}

    @classmethod
    def from_json(cls, record: object) -> Answerability:
        """Read what `to_json` gave.

        Raises:
            UserError: something is missing, of the wrong type or not finite, or the threshold is no probability.
        """
        if not isinstance(record, Mapping):
            raise UserError(f"answerability: {record!r} is no mapping; calibrate again")
        weights = finite(record.get("weights"), "answerability: weights")
        bias, threshold = finite([record.get("bias"), record.get("threshold")], "answerability: bias, threshold")
        if not weights or len(weights) % FEATURES:
            raise UserError(
                f"answerability: weights must be {FEATURES} numbers a scorer, but is {weights!r}; calibrate again"
            )
        if not 0 <= threshold <= 1:
            raise UserError(f"answerability: threshold must be within 0 and 1, but is {threshold!r}; calibrate again")
        return cls(weights, bias, threshold)


def features(scores: npt.ArrayLike) -> Floats:
    """The top score, its lead over the second, and its lead over the mean of all others.

    A reranker trained with a listwise loss may shift all logits of a query: the leads do not see that.

    Args:
        scores: `[n]` or `[scorers, n]` scores of one query's candidates, in any order.

    Returns:
        `[3 × scorers]`; a single score leads by 0, and without any score all are 0.
    """
    return np.concatenate([_of_one(row) for row in np.atleast_2d(np.asarray(scores, np.float64))])


def _of_one(scores: Floats) -> Floats:
    ordered = np.sort(scores)[::-1]
    if len(ordered) < 2:
        return np.array([ordered.sum(), 0.0, 0.0])
    return np.array([ordered[0], ordered[0] - ordered[1], ordered[0] - ordered[1:].mean()])


def fit(answerable: Sequence[npt.ArrayLike], unanswerable: Sequence[npt.ArrayLike]) -> Answerability:
    """Fit an L2-regularised logistic regression on standardised features, and choose the threshold.

    The threshold is the confidence with the largest sensitivity + specificity - 1 (Youden 1950) on the same lists; of
    equal ones the lowest, which answers more. Empty lists are left out: their confidence is 0 in any case.

    Args:
        answerable: scores of each answerable query, `[n]` or `[scorers, n]`.
        unanswerable: those of each other query.

    Raises:
        ValueError: either has no list with a score.
    """
    from sklearn.linear_model import LogisticRegression

    lists = [[scores for scores in map(np.asarray, side) if scores.size] for side in (unanswerable, answerable)]
    if not all(lists):
        raise ValueError("answerability needs at least one answerable and one unanswerable list of scores")
    matrix = np.stack([features(scores) for side in lists for scores in side])
    labels = np.repeat([False, True], list(map(len, lists)))
    centre, scale = matrix.mean(axis=0), np.maximum(matrix.std(axis=0), 1e-6)
    fitted = LogisticRegression(tol=1e-8, max_iter=1000).fit((matrix - centre) / scale, labels)
    weights = fitted.coef_[0] / scale
    # Folded back, so that serving needs neither centre nor scale.
    model = Answerability(tuple(weights.tolist()), float(fitted.intercept_[0] - weights @ centre), 0.0)
    negatives, positives = (np.array([model.confidence(scores) for scores in side]) for side in lists)
    return model._replace(threshold=_youden(positives, negatives))


def auroc(positives: npt.ArrayLike, negatives: npt.ArrayLike) -> float:
    """The chance that a positive has a higher confidence than a negative, ties counting half (Mann and Whitney 1947).

    Raises:
        ValueError: either is empty.
    """
    from sklearn.metrics import roc_auc_score

    if not np.size(positives) or not np.size(negatives):
        raise ValueError("AUROC needs at least one positive and one negative")
    labels = np.repeat([True, False], [np.size(positives), np.size(negatives)])
    return float(roc_auc_score(labels, np.concatenate([positives, negatives])))


def risk_coverage(confidence: npt.ArrayLike, correct: npt.ArrayLike, points: int = 50) -> list[tuple[float, float]]:
    """The risk of answering only the queries one is most confident of (El-Yaniv and Wiener 2010).

    Queries are answered in falling confidence, equal ones together.

    Args:
        confidence: `[queries]`.
        correct: `[queries]` truth values: is the first document relevant?
        points: at most so many, evenly spread, the last one being that of full coverage.

    Returns:
        (coverage, risk) by rising coverage: the share of queries answered, and the share of those that is not correct.
    """
    values, right = np.asarray(confidence, np.float64), np.asarray(correct, np.bool_)
    order = np.argsort(-values, kind="stable")
    answered = np.arange(1, len(values) + 1)
    risk = np.cumsum(~right[order]) / answered
    # The places where a run of equal confidences ends.
    ends = np.flatnonzero(np.diff(values[order], append=-np.inf))
    if not len(ends):
        return []
    kept = ends[np.unique(np.linspace(len(ends) - 1, 0, points).round().astype(np.int64))]
    return [(float(answered[end] / len(values)), float(risk[end])) for end in kept]


def _youden(positives: Floats, negatives: Floats) -> float:
    """The value at or above which most positives and fewest negatives lie; of equal ones the lowest."""
    thresholds = np.unique(np.concatenate([positives, negatives]))
    found = len(positives) - np.searchsorted(np.sort(positives), thresholds)
    spared = np.searchsorted(np.sort(negatives), thresholds)
    # Sensitivity + specificity over a common denominator: whole numbers, so that ties are exact.
    return float(thresholds[np.argmax(found * len(negatives) + spared * len(positives))])
