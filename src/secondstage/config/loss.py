"""What a training minimises: a weighted sum of losses, each with its own settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import ValidationError, ValidatorFunctionWrapHandler, field_validator

from .base import Count, Positive, Section, Share

Scheme = Literal["ndcg1", "ndcg2", "lambdarank", "ndcg2++"]
Pairs = Literal["all", "positive_negative"]

ON_LABELS: Mapping[str, tuple[str, ...]] = {
    "bce": ("pos_weight",),
    "gbce": ("t", "sampling"),
    "hinge": ("margin",),
    "ranknet": ("sigma", "weighted"),
    "lce": ("temperature",),
    "listnet": ("temperature",),
    "listmle": (),
    "p_listmle": (),
    "lambdaloss": ("scheme", "k", "sigma", "mu"),
    "approx_ndcg": ("temperature",),
}
"""The losses that compare scores with labels, and the settings of each; their defaults are those of the functions in
`secondstage.train.losses`."""
ON_GAINS = ("lambdaloss", "approx_ndcg")
"""Of these, those that see labels as gains, 2^label − 1; so does a weighted ranknet."""
ON_TEACHER: Mapping[str, tuple[str, ...]] = {
    "mse": (),
    "margin_mse": ("pairs",),
    "kl": ("temperature",),
    "ranknet_teacher": ("sigma", "weighted"),
    "adr_mse": ("temperature",),
}
"""Those that compare them with a teacher's scores."""


class LossTerm(Section):
    """One loss of the sum. A setting that is none is the loss's own default."""

    weight: Positive = 1.0
    pos_weight: Positive | Literal["auto"] | None = None
    """How often a positive counts; auto: the negatives per positive of its list."""
    t: Share | None = None
    """How far gbce calibrates."""
    sampling: Share | None = None
    """The negatives drawn for a step per negative there is to draw from."""
    margin: Positive | None = None
    sigma: Positive | None = None
    """The steepness of the logistic function of a pair."""
    weighted: bool | None = None
    """Whether a pair weighs as much as its labels' gains, or the teacher's scores, differ."""
    temperature: Positive | None = None
    scheme: Scheme | None = None
    """What a pair of LambdaLoss weighs."""
    k: Count | None = None
    """LambdaLoss for nDCG@k."""
    mu: Positive | None = None
    """The share of ndcg2 in the scheme ndcg2++."""
    pairs: Pairs | None = None

    @field_validator("pos_weight", mode="wrap")
    @classmethod
    def _one_fault(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        """Not one for each of the kinds that it is not."""
        try:
            return check(value)
        except ValidationError:
            raise ValueError(f"input should be a number above 0, or auto, not {value!r}") from None

    @property
    def settings(self) -> dict[str, Any]:
        """Those that are given."""
        return {name: value for name, value in self if name != "weight" and value is not None}


def check_losses(losses: Mapping[str, LossTerm]) -> Mapping[str, LossTerm]:
    """The sum as it is.

    Raises:
        ValueError: it is empty, names a loss that there is not, or gives a loss a setting of another.
    """
    known = {**ON_LABELS, **ON_TEACHER}
    faults = [] if losses else [f"give at least one of {', '.join(known)}"]
    for name, term in losses.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            faults.append(f"there is no loss {name!r}; {hint}")
        elif alien := [setting for setting in term.settings if setting not in known[name]]:
            own = f"those of {name} are {', '.join(('weight', *known[name]))}"
            faults.append(f"the loss {name} has no setting {' and no '.join(alien)}; {own}")
        elif (term.t, term.sampling) == (1, 0):
            faults.append("gbce with t=1 and sampling=0 ignores the positives: lower t, or raise sampling")
    if faults:
        raise ValueError("; ".join(faults))
    return losses


def on_teacher(losses: Iterable[str]) -> bool:
    """Whether one of the losses named compares with a teacher's scores."""
    return any(name in ON_TEACHER for name in losses)


def on_labels(losses: Iterable[str]) -> bool:
    """Whether one of them compares with labels."""
    return any(name not in ON_TEACHER for name in losses)
