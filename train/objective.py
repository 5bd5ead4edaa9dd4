"""What a step minimises: the weighted sum of the losses, each the mean over the lists that count for it.

A step's lists may be spread over micro-batches and processes: the counts, known before any forward pass, are added up
over the whole step; then the parts' totals, each over the same counts, add up to that of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from secondstage.config import LossTerm
from secondstage.config.loss import ON_GAINS, ON_LABELS
from secondstage.errors import UserError
from secondstage.lists import POSITIVE, TrainingList

from .examples import Example
from .losses import LOSSES

# The largest relevance for losses that see 2^relevance: in single precision 2^128 is infinite, and sums are before it.
GREATEST = 100


class Targets(NamedTuple):
    """What scores are compared with; all are `[lists, candidates]`.

    Attributes:
        labels: 0 of negatives, and where there is none.
        labelled: where losses on labels see a candidate.
        taught: where losses on teacher scores do.
        teacher: the teacher's scores, 0 where there is none.
    """

    labels: Tensor
    labelled: Tensor
    taught: Tensor
    teacher: Tensor


def targets_of(examples: Sequence[Example], device: torch.device | str = "cpu") -> Targets:
    """Fold examples, shorter ones padded with candidates that no loss sees."""
    width = max((len(example.doc_ids) for example in examples), default=0)

    def folded(rows: Sequence[Sequence[float]], padding: float) -> Tensor:
        padded = [[*row, *[padding] * (width - len(row))] for row in rows]
        return torch.tensor(padded, dtype=torch.float32, device=device).view(len(examples), width)

    teacher = folded([example.teacher for example in examples], float("nan"))
    taught = teacher.isfinite()
    return Targets(
        labels=folded([example.labels for example in examples], 0),
        labelled=folded([example.labelled for example in examples], 0).bool(),
        taught=taught,
        teacher=teacher.masked_fill(~taught, 0),
    )


class Objective:
    """A weighted sum of losses, by their names in `LOSSES`."""

    def __init__(self, terms: Mapping[str, LossTerm]) -> None:
        self.terms = terms

    @property
    def needs_teacher(self) -> bool:
        """Whether one of them sees a teacher's scores."""
        return any(name not in ON_LABELS for name in self.terms)

    def refuse_grades(self, lists: Iterable[TrainingList]) -> None:
        """Raise `UserError` if a positive's relevance is too large for one of these losses."""
        named = [name for name, term in self.terms.items() if name in ON_GAINS or (name == "ranknet" and term.weighted)]
        if not named:
            return
        for found in lists:
            for candidate in found.with_role(POSITIVE):
                if candidate.relevance > GREATEST:
                    raise UserError(
                        f"query {found.query_id!r}, document {candidate.doc_id!r}: relevance {candidate.relevance} is "
                        f"too large for {' and '.join(named)}, which takes 2^relevance as gain, up to {GREATEST}: give "
                        "the qrels small grades (0, 1, 2, 3), or take another loss, e.g. train.loss=lce"
                    )

    def counts(self, targets: Targets) -> dict[str, int]:
        """For each loss the number of lists that have something to compare; of all others it is 0."""
        return {
            name: int(LOSSES[name].counts(wanted, **settings).sum())
            for name, (wanted, settings) in self._arguments(targets).items()
        }

    def sums(self, scores: Tensor, targets: Targets) -> dict[str, Tensor]:
        """For each loss the sum over the lists, a scalar.

        Args:
            scores: `[lists, candidates]`, anything where there is no candidate.
            targets: of the same lists.
        """
        return {
            name: LOSSES[name].values(scores, wanted, **settings).sum()
            for name, (wanted, settings) in self._arguments(targets).items()
        }

    def total(self, sums: Mapping[str, Tensor], counts: Mapping[str, int]) -> Tensor:
        """What these lists add to the step's loss.

        Args:
            sums: those of these lists.
            counts: those of the whole step, over all its micro-batches and processes.
        """
        parts = [term.weight * sums[name] / max(counts[name], 1) for name, term in self.terms.items()]
        return torch.stack(parts).sum()

    def constant(self, targets: Targets, counts: Mapping[str, int]) -> float:
        """The loss of whoever gives all candidates the same score.

        Args:
            targets: of all lists of a step.
            counts: of the same.
        """
        return self.total(self.sums(torch.zeros_like(targets.labels), targets), counts).item()

    def _arguments(self, targets: Targets) -> dict[str, tuple[Tensor, dict[str, Any]]]:
        """Of each loss, targets and keywords."""
        found: dict[str, tuple[Tensor, dict[str, Any]]] = {}
        for name, term in self.terms.items():
            if name in ON_LABELS:
                found[name] = targets.labels, {"mask": targets.labelled, **term.settings}
            else:
                found[name] = targets.teacher, {"mask": targets.taught, **term.settings}
            if _sees_both(term):
                found[name][1]["labels"] = targets.labels.masked_fill(~targets.labelled, float("nan"))
        return found


def _sees_both(term: LossTerm) -> bool:
    return term.pairs == "positive_negative"
