"""From a reranker's logit to the probability that the document is relevant: three methods, and how well they fit.

Whatever the method, a higher score of a list never gets a lower probability: calibration keeps the order. Applying one
needs numpy alone; `calibrate` fits it.

A reranker that was trained with a listwise loss learns which candidate of a list is better, not where zero is: its
logits may be shifted from query to query. Then the probability is better taken from the logarithm of the candidate's
share in the softmax over its list, which no shift changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from .errors import UserError
from .reliability import Floats

Method = Literal["temperature", "platt", "isotonic"]
Basis = Literal["score", "list"]
# From the simplest to the most flexible.
METHODS: tuple[Method, ...] = get_args(Method)
BASES: tuple[Basis, ...] = get_args(Basis)
LARGEST = float(np.finfo(np.float64).max)


class Calibration(NamedTuple):
    """A map from scores to probabilities: sigmoid(slope × score + intercept), or straight lines between knots.

    Attributes:
        method: "temperature" and "platt" have slope and intercept, "isotonic" has knots.
        slope: at least 0; of "temperature" it is 1 / T.
        intercept: 0 but for "platt".
        x: `[knots]` scores, strictly increasing.
        y: `[knots]` their probabilities, non-decreasing; they hold beyond the outermost knots.
        basis: "score" maps the logit itself, "list" its logarithmic share in the list (`relative`).
        least: of the basis "list": candidates of a list below which a share says little, as it grows where fewer
            share: the only document of a list has all of it.
        alone: the map of the logits themselves, for such lists; none where there is none.
    """

    method: Method
    slope: float = 1.0
    intercept: float = 0.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    basis: Basis = "score"
    least: int = 0
    alone: Calibration | None = None

    def of_list(self, scores: ArrayLike) -> Floats:
        """The probability of being relevant for each candidate of one query.

        Args:
            scores: `[candidates]` logits, of all candidates that were scored.
        """
        values = np.asarray(scores, np.float64)
        return self.of_lists(values, [""] * len(values))

    def of_lists(self, scores: ArrayLike, groups: Sequence[str]) -> Floats:
        """The same for the candidates of several queries, `[pairs]` with the ids of their queries."""
        values = np.asarray(scores, np.float64)
        if self.basis == "score":
            return self.probability(values)
        found = self.probability(relative(values, groups))
        if self.alone is not None and len(values):
            _, group, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
            found = np.where(sizes[group] < self.least, self.alone.probability(values), found)
        return found

    def probability(self, values: ArrayLike) -> Floats:
        """The map alone, of logits or shares as the basis says; same shape, finite for any finite value."""
        values = np.asarray(values, np.float64)
        if self.method == "isotonic":
            return np.asarray(np.interp(values, self.x, self.y), np.float64)
        return sigmoid(self.slope * values + self.intercept)

    def to_json(self) -> dict[str, object]:
        """What `from_json` reads: method and basis, and only what this method has."""
        shared: dict[str, object] = {"method": self.method, "basis": self.basis}
        if self.alone is not None:
            shared |= {"least": self.least, "alone": self.alone.to_json()}
        if self.method == "isotonic":
            return shared | {"x": list(self.x), "y": list(self.y)}
        return shared | {"slope": self.slope, "intercept": self.intercept}

    @classmethod
    def from_json(cls, record: object) -> Calibration:
        """Read what `to_json` gave.

        Raises:
            UserError: something is missing, of the wrong type, not finite, or would reverse the order of two scores.
        """
        if not isinstance(record, Mapping) or record.get("method") not in METHODS:
            raise UserError(f"calibration: the method of {record!r} is none of {', '.join(METHODS)}; calibrate again")
        basis = record.get("basis", "score")
        if basis not in BASES:
            raise UserError(f"calibration: basis {basis!r} is none of {', '.join(BASES)}; calibrate again")
        more: dict[str, Any] = {"basis": basis}
        if record.get("alone") is not None:
            least, alone = record.get("least"), cls.from_json(record["alone"])
            if type(least) is not int or least < 0 or basis != "list" or alone.basis != "score":
                raise UserError(f"calibration: least={least!r} is no number of candidates of a list; calibrate again")
            more |= {"least": least, "alone": alone}
        if record["method"] != "isotonic":
            slope, intercept = finite([record.get("slope"), record.get("intercept")], "calibration: slope, intercept")
            if slope < 0:
                raise UserError(f"calibration: slope must not be negative, but is {slope!r}; calibrate again")
            return cls(record["method"], slope, intercept, **more)
        x, y = (finite(record.get(key), f"calibration: {key}") for key in ("x", "y"))
        if not x or (np.diff(x) <= 0).any():
            raise UserError(f"calibration: x must be increasing numbers, but is {x!r}; calibrate again")
        if len(y) != len(x) or (np.diff(y) < 0).any() or y[0] < 0 or y[-1] > 1:
            rule = f"y must be {len(x)} probabilities that never fall"
            raise UserError(f"calibration: {rule}, but is {y!r}; calibrate again")
        return cls("isotonic", x=x, y=y, **more)


def relative(scores: ArrayLike, groups: Sequence[str]) -> Floats:
    """The logarithm of each candidate's share in the softmax over the candidates of its query, never above 0.

    Args:
        scores: `[pairs]` logits.
        groups: `[pairs]` query ids.
    """
    values = np.asarray(scores, np.float64)
    if not len(values):
        return values
    ids, group = np.unique(np.asarray(groups), return_inverse=True)
    largest = np.full(len(ids), -np.inf)
    np.maximum.at(largest, group, values)
    total = np.bincount(group, np.exp(values - largest[group]), len(ids))
    return np.asarray(values - largest[group] - np.log(total)[group], np.float64)


def sigmoid(logits: ArrayLike) -> Floats:
    """1 / (1 + exp(-logit)), without overflow."""
    values = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1.0, small) / (1.0 + small), np.float64)


def finite(values: object, name: str) -> tuple[float, ...]:
    """A list of finite numbers out of JSON; else `UserError`."""
    # By type, as a truth value is an int too.
    if not isinstance(values, Sequence) or not all(type(v) in (int, float) and abs(v) <= LARGEST for v in values):
        raise UserError(f"{name} must be finite numbers, but is {values!r}; calibrate again")
    return tuple(map(float, values))
