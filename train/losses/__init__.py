"""Losses: pure functions of scores, what they should be, and a mask. One calling convention.

    loss(scores, targets, *, mask, **settings) -> [lists]

`scores` are `[lists, candidates]` logits, `targets` `[lists, candidates]` labels (0 of a negative, above that the grade
of a positive) or teacher scores, `mask` is true where a candidate counts; what the others hold elsewhere is ignored.
The result is one value a list, in single precision at least: 0 with a gradient of 0 where a list has nothing to
compare. The mean over the lists that do count is the caller's: so a batch can be cut at any place. `margin_mse` wants
`labels`, too.

`LOSSES` has all of them by name. Their settings and what they are compared with are in `secondstage.config.loss`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from . import countable, distillation, lambdas, listwise, pairwise, pointwise


class PerList(Protocol):
    """A function under the convention above."""

    def __call__(self, scores: Tensor, targets: Tensor, /, *, mask: Tensor) -> Tensor:
        """Values `[lists]`."""
        ...


class Countable(Protocol):
    """Whether lists have anything to compare: settings as of the loss, but no scores."""

    def __call__(self, targets: Tensor, /, *, mask: Tensor) -> Tensor:
        """Bool `[lists]`."""
        ...


class Loss(NamedTuple):
    """A loss and which lists count for it: of all others it is 0, and so is its gradient."""

    values: PerList
    counts: Countable


LOSSES: dict[str, Loss] = {
    "bce": Loss(pointwise.bce, countable.some),
    "gbce": Loss(pointwise.gbce, countable.some),
    "hinge": Loss(pairwise.hinge, countable.different),
    "ranknet": Loss(pairwise.ranknet, countable.different),
    "lce": Loss(listwise.lce, countable.positive_and_negative),
    "listnet": Loss(listwise.listnet, countable.different),
    "listmle": Loss(listwise.listmle, countable.different),
    "p_listmle": Loss(listwise.p_listmle, countable.different),
    "lambdaloss": Loss(lambdas.lambdaloss, countable.different),
    "approx_ndcg": Loss(lambdas.approx_ndcg, countable.different),
    "mse": Loss(distillation.mse, countable.some),
    "margin_mse": Loss(distillation.margin_mse, distillation.has_margins),
    "kl": Loss(distillation.kl, countable.two),
    "ranknet_teacher": Loss(distillation.ranknet_teacher, countable.different),
    "adr_mse": Loss(distillation.adr_mse, countable.different),
}
