"""How long to train, where labels are few: trainings without one fold of the queries each choose it."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from secondstage.errors import UserError
from secondstage.files import read_json, write_json
from secondstage.lists import TrainingList
from secondstage.measures import Values
from secondstage.parallel import workers
from secondstage.progress import say
from secondstage.splits import choose_queries
from secondstage.texts import PairTexts

from .folds import held_out, make_folds
from .selection import MEASURE, Selection

Curve = list[tuple[float, Values]]
"""The evaluations of one training: the progress at each, and the value of each query."""
TrainFold = Callable[[Sequence[TrainingList], Selection, Path], Curve]
"""Trains on the lists over the whole budget, whatever its selection finds, and returns all evaluations."""


class Point(NamedTuple):
    """The evaluation of all folds at one share of the budget: the mean over queries, and its standard error."""

    progress: float
    value: float
    error: float


class Stop(NamedTuple):
    """Where the training on all lists ends.

    Attributes:
        progress: the share of the budget; 1 to use all of it. The learning rate falls as if all of it were used.
        points: the mean curve.
        gain: what the value there is above that at the end.
        error: the standard error of this difference, paired by query.
        queries: how many were evaluated.
    """

    progress: float
    points: tuple[Point, ...]
    gain: float
    error: float
    queries: int


def choose_stop(
    lists: Sequence[TrainingList],
    texts: PairTexts,
    train_fold: TrainFold,
    *,
    folds: int,
    evaluations: int,
    queries: int,
    depth: int,
    seed: int,
    folder: Path,
    measured: Container[str] | None = None,
) -> Stop:
    """Train once without each fold, and find the share of the budget at which the held-out queries are ranked best.

    Args:
        lists: each with a positive and a negative.
        texts: of queries and documents.
        train_fold: see `TrainFold`. All processes call it together.
        folds: how many.
        evaluations: of each training, evenly spread over the budget.
        queries: evaluated of each fold, at most.
        depth: candidates of each.
        seed: of the folds.
        folder: keeps the curves of finished folds, which are not trained again.
        measured: the ids of queries that may be evaluated, e.g. those that people asked; none for all.

    Raises:
        UserError: there are too few lists, or none of a fold can be evaluated.
    """
    divided, note = make_folds(lists, texts.queries, folds, seed)
    parts = [set(part) for part in divided]
    say(
        f"  train.folds={folds}: {folds} trainings without a fold each, then one on all lists: {folds + 1} times the "
        f"budget. Between folds {note}"
    )
    selections = []
    for number, part in enumerate(parts):  # before the first of them is trained
        fold = [x for x in lists if x.query_id in part and (measured is None or x.query_id in measured)]
        asked = set(choose_queries(held_out(fold, texts, depth=depth).qrels, queries, seed))
        if not asked:
            raise UserError(
                f"train.folds={folds}: fold {number} has no query to evaluate, that is one of the collection with a "
                "relevant candidate: use fewer folds, or 0"
            )
        selections.append(held_out([x for x in fold if x.query_id in asked], texts, depth=depth))
    curves = []
    for number, (part, selection) in enumerate(zip(parts, selections, strict=True)):
        rest = [x for x in lists if x.query_id not in part]
        curves.append(_kept_curve(folder / f"fold-{number}", rest, selection, train_fold))
    stop = choose(curves, evaluations)
    say(describe(stop))
    return stop


def _kept_curve(folder: Path, rest: Sequence[TrainingList], selection: Selection, train_fold: TrainFold) -> Curve:
    path = folder / "curve.json"
    if path.is_file():
        return [(progress, values) for progress, values in read_json(path)]
    curve = train_fold(rest, selection, folder)
    if workers().lead:
        write_json(path, curve)
    return curve


def choose(curves: Sequence[Curve], evaluations: int) -> Stop:
    """The share of the budget with the highest mean over the queries of all folds; of equal ones the latest.

    The highest, and not the first within one standard error of it (Breiman et al. 1984): that rule buys a simpler
    model, and a shorter training makes none. It would also stop too early, as the training on all lists has more.

    Args:
        curves: of each fold, over queries of its own. Between two evaluations, a query's value is on a straight line.
        evaluations: the shares that are compared: 1 / evaluations, 2 / evaluations, …, 1.

    Raises:
        ValueError: a fold has no evaluation.
    """
    if not all(curves):
        raise ValueError("a fold without an evaluation")
    shares = np.arange(1, evaluations + 1) / evaluations
    columns = [
        np.interp(shares, [progress for progress, _ in curve], [values[query_id] for _, values in curve])
        for curve in curves
        for query_id in curve[0][1]
    ]
    values = np.stack(columns, axis=1)
    means = [float(row.mean()) for row in values]  # each alone: rows of equal values have equal means
    best = max(range(evaluations), key=lambda i: (means[i], i))
    points = tuple(
        Point(float(share), value, _error(row)) for share, value, row in zip(shares, means, values, strict=True)
    )
    gains = values[best] - values[-1]
    return Stop(float(shares[best]), points, float(gains.mean()), _error(gains), values.shape[1])


def describe(stop: Stop) -> str:
    """The choice in words."""
    value = next(point.value for point in stop.points if point.progress == stop.progress)
    found = f"  folds: {MEASURE} of {stop.queries} held-out queries is highest, {value:.4f}, "
    if stop.progress == 1:
        return found + "at the end of the budget: the training on all lists uses all of it"
    return (
        found + f"at {stop.progress:.0%} of the budget ({stop.gain:+.4f} over its end, standard error "
        f"{stop.error:.4f}): there the training on all lists stops"
    )


def _error(values: npt.NDArray[np.float64]) -> float:
    """The standard error of the mean; infinite for one value."""
    return float(values.std(ddof=1)) / sqrt(len(values)) if len(values) > 1 else float("inf")
