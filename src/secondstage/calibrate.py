"""Fitting a calibration: three methods on two bases, chosen by cross-validation over queries."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .calibration import BASES, METHODS, Basis, Calibration, Method, relative, sigmoid
from .reliability import Floats, Mask, as_pairs, log_loss


def fit(method: Method, scores: ArrayLike, relevant: ArrayLike) -> Calibration:
    """Fit one method.

    "temperature": sigmoid(score / T), T of the highest likelihood (Guo et al. 2017). "platt": sigmoid(slope × score +
    intercept) of the highest likelihood of smoothed targets (Platt 1999), slope at least 0. "isotonic": the
    non-decreasing map with the smallest squared error (Zadrozny and Elkan 2002), fitted on Platt's targets too, so that
    no probability is 0 or 1: with p relevant pairs and n others, it lies between 1 / (n + 2) and (p + 1) / (p + 2).

    Args:
        method: one of `METHODS`.
        scores: `[pairs]` logits, of any queries.
        relevant: `[pairs]` truth values.

    Raises:
        ValueError: no pair is relevant, or all are; lengths differ; or a score is not finite.
    """
    values, labels = as_pairs(scores, relevant)
    if labels.all() or not labels.any():
        raise ValueError("calibration needs at least one relevant pair and one that is not")
    return {"temperature": _temperature, "platt": _platt, "isotonic": _isotonic}[method](values, labels)


def choose(scores: ArrayLike, relevant: ArrayLike, groups: Sequence[str], *, folds: int = 5, seed: int) -> Calibration:
    """Fit the basis and the method with the lowest log loss in cross-validation; of equal ones the simplest.

    Where that is the share in a list, lists of less than half as many candidates as usual get the best map of logits.

    The candidates of a query are always in the same fold. There are fewer folds where there are fewer queries; without
    two queries that have a relevant pair, and two that have another one, nothing can be compared: it is "platt".

    Args:
        scores, relevant: as `fit`.
        groups: `[pairs]` query ids.
        folds: at most so many, at least 2.
        seed: deals the queries to folds.

    Raises:
        ValueError: as `fit`.
    """
    values, labels = as_pairs(scores, relevant)
    fold = _deal(labels, groups, folds, seed)
    if fold is None:
        return fit("platt", values, labels)
    inputs: dict[Basis, Floats] = {"score": values, "list": relative(values, groups)}

    def loss(kind: tuple[Basis, Method]) -> float:
        own, method = inputs[kind[0]], kind[1]
        held_out = np.zeros(len(own))
        for others, inside in _folds(fold):
            held_out[inside] = fit(method, own[others], labels[others]).probability(own[inside])
        return round(log_loss(held_out, labels), 12)

    losses = {kind: loss(kind) for kind in itertools.product(BASES, METHODS)}
    basis, method = min(losses, key=lambda kind: losses[kind])
    found = fit(method, inputs[basis], labels)
    if basis == "score":
        return found
    alone = fit(min(METHODS, key=lambda each: losses["score", each]), values, labels)
    sizes = np.unique(np.asarray(groups), return_counts=True)[1]
    return found._replace(basis=basis, least=int(np.median(sizes)) // 2, alone=alone)


def crossfitted(scores: ArrayLike, relevant: ArrayLike, groups: Sequence[str], *, folds: int = 5, seed: int) -> Floats:
    """`[pairs]` probabilities, those of each query from a calibration chosen on other queries. Arguments as `choose`.

    Raises:
        ValueError: as `fit`, or fewer than two queries have a relevant pair, or fewer than two have another one.
    """
    values, labels = as_pairs(scores, relevant)
    fold, ids = _deal(labels, groups, folds, seed), np.asarray(groups)
    if fold is None:
        raise ValueError("cross-fitting needs two queries with a relevant pair, and two with one that is not")

    held_out = np.zeros(len(values))
    for others, inside in _folds(fold):
        chosen = choose(values[others], labels[others], ids[others].tolist(), folds=folds, seed=seed)
        held_out[inside] = chosen.of_lists(values[inside], ids[inside].tolist())
    return held_out


def _targets(labels: Mask) -> Floats:
    """Platt's smoothed targets: the relevance that pairs would have, had there been one more of each kind."""
    positives, negatives = int(labels.sum()), int((~labels).sum())
    return np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def _temperature(values: Floats, labels: Mask) -> Calibration:
    from scipy.optimize import minimize_scalar

    # Scores that separate the two kinds would have T fall to 0: it stops where half of the logits are beyond 50.
    scale = max(float(np.median(np.abs(values))), 1e-3)
    bounds = (math.log(scale / 50), math.log(scale * 1e4))
    found: Any = minimize_scalar(lambda log_t: _cross_entropy(values * math.exp(-log_t), labels), bounds=bounds)
    return Calibration("temperature", slope=math.exp(-float(found.x)))


def _platt(values: Floats, labels: Mask) -> Calibration:
    from scipy.optimize import minimize

    # Standardised, for the sake of the optimiser. Rounding makes equal scores differ by less than the least scale.
    centre, scale = float(values.mean()), max(float(values.std()), 1e-6)
    standard, targets = (values - centre) / scale, _targets(labels)

    def objective(weights: Floats) -> tuple[float, Floats]:
        logits = weights[0] * standard + weights[1]
        error = sigmoid(logits) - targets
        return _cross_entropy(logits, targets), np.array([(error * standard).mean(), error.mean()])

    # Bounds make it L-BFGS-B.
    bounds, options = [(0, None), (None, None)], {"ftol": 0.0, "gtol": 1e-9}
    found = minimize(objective, np.zeros(2), jac=True, bounds=bounds, options=options)
    slope = float(found.x[0]) / scale
    return Calibration("platt", slope, float(found.x[1]) - slope * centre)


def _isotonic(values: Floats, labels: Mask) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression().fit(values, _targets(labels))
    return Calibration("isotonic", x=tuple(fitted.X_thresholds_.tolist()), y=tuple(fitted.y_thresholds_.tolist()))


def _cross_entropy(logits: Floats, targets: Floats | Mask) -> float:
    return float((np.logaddexp(0.0, logits) - targets * logits).mean())


def _deal(labels: Mask, groups: Sequence[str], folds: int, seed: int) -> NDArray[np.int64] | None:
    """`[pairs]` folds, such that either kind of pair is also found outside of any fold; None if that cannot be."""
    if folds < 2 or len(groups) != len(labels):
        raise ValueError(f"{folds} folds of {len(groups)} query ids for {len(labels)} scores")
    ids, group = np.unique(np.asarray(groups), return_inverse=True)
    has_relevant, has_other = (np.bincount(group, kind, len(ids)) > 0 for kind in (labels, ~labels))
    if min(has_relevant.sum(), has_other.sum()) < 2:
        return None
    # Queries with only relevant pairs first, those with only others last: either kind is in a row, so dealing the row
    # spreads both over the folds evenly.
    shuffled = np.random.default_rng(seed).permutation(len(ids))
    kind = has_other.astype(np.int64) - has_relevant.astype(np.int64)
    row = shuffled[np.argsort(kind[shuffled], kind="stable")]
    fold = np.empty(len(ids), np.int64)
    fold[row] = np.arange(len(ids)) % folds
    return fold[group]


def _folds(fold: NDArray[np.int64]) -> Iterator[tuple[Mask, Mask]]:
    """For each fold, which pairs are outside of it, and which inside."""
    for number in np.unique(fold):
        yield fold != number, fold == number
