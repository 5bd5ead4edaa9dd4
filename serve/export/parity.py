"""Parity: how far an export's scores are from the bundle's own, on ranked lists, and when it is refused. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from secondstage.backends.record import MAY_LOSE
from secondstage.collection import Qrels
from secondstage.errors import UserError
from secondstage.measures import evaluate, mean
from secondstage.run import Run, Scores

MEASURE = "nDCG@10"
# Logits that an export in single precision may be off by.
SCORES_AGREE = 1e-3
# Without judgements: the share of neighbours that must keep their order.
MUST_KEEP = 0.99
# Neighbours whose logits are nearer than this may change places: a hundredth of a probability at its steepest is 0.04.
TOLERANCE = {"fp32": SCORES_AGREE, "int8": 0.1}

# What else can be done where a layout is not what it should be.
REPORT = "report it with the model's config.json and tokenizer.json; `secondstage serve` serves the bundle as it is"


class ParityError(UserError):
    """An export whose scores are too far off."""


class Parity(NamedTuple):
    """What was measured.

    Attributes:
        basis: the lists it was measured on: "dev", "test", or "documents", the bundle's own by their titles.
        queries: the number of lists.
        pairs: the number of scores.
        largest: difference of two logits.
        mean: difference of two logits.
        tolerance: neighbours in torch's order that differ by more should keep their order.
        kept: the share of them that do; 1 where there are none.
        ndcg: nDCG@10 of the export's order; none without judgements.
        ndcg_torch: that of the bundle's own in single precision.
        served: the same as it serves, in bfloat16; none where it serves as it was measured.
    """

    basis: str
    queries: int
    pairs: int
    largest: float
    mean: float
    tolerance: float
    kept: float
    ndcg: float | None
    ndcg_torch: float | None
    served: Parity | None = None

    @property
    def ndcg_delta(self) -> float | None:
        """nDCG@10 gained, or lost where it is below 0; none without judgements."""
        return None if self.ndcg is None or self.ndcg_torch is None else self.ndcg - self.ndcg_torch

    def to_json(self) -> dict[str, Any]:
        """For a record, rounded to what is meant."""
        found = {**self._asdict(), "ndcg_delta": self.ndcg_delta, "served": self.served and self.served.to_json()}
        return {name: round(value, 7) if isinstance(value, float) else value for name, value in found.items()}

    @property
    def sentence(self) -> str:
        """What was measured, in words."""
        if self.ndcg_delta is None:
            ranking = "nDCG could not be measured: no judgements"
        else:
            ranking = f"nDCG@10 {self.ndcg:.4f} against {self.ndcg_torch:.4f} ({self.ndcg_delta:+.4f})"
        served = f"; in bfloat16, which serves, {self.served.sentence}" if self.served else ""
        return (
            f"scores off by {self.largest:.2g} at most, {self.mean:.2g} on average; {self.kept:.2%} of neighbours "
            f"more than {self.tolerance:g} apart keep their order; {ranking} ({self.queries} queries of {self.basis}, "
            f"{self.pairs} pairs){served}"
        )


def compare(first: Run, torch_scores: Scores, scores: Scores, qrels: Qrels, basis: str, tolerance: float) -> Parity:
    """Compare two scorings of the same candidates.

    Args:
        first: the candidates in the first stage's order.
        torch_scores: `[pairs]` the bundle's own logits in single precision, in the order of `first.pairs()`.
        scores: `[pairs]` those of the export.
        qrels: the judgements of these queries; empty if there are none.
        basis: what the lists are of.
        tolerance: see `Parity`.
    """
    off = np.abs(scores.astype(np.float64) - torch_scores)
    return Parity(
        basis=basis,
        queries=len(first),
        pairs=len(scores),
        largest=float(off.max(initial=0.0)),
        mean=float(off.mean()) if len(off) else 0.0,
        tolerance=tolerance,
        kept=_kept(first, torch_scores, scores, tolerance),
        ndcg=_ndcg(first, scores, qrels),
        ndcg_torch=_ndcg(first, torch_scores, qrels),
    )


def check(name: str, parity: Parity, *, int8: bool) -> None:
    """Raise `ParityError` if an export is too far off.

    Single precision may be off by `SCORES_AGREE`; eight bits, and bfloat16 where that serves, may lose `MAY_LOSE`
    nDCG@10, or, without judgements, a hundredth of the order of neighbours.
    """
    if not int8 and not parity.largest <= SCORES_AGREE:
        rule = f"in single precision scores may be off by {SCORES_AGREE:g}"
        way = "report it with the model's config.json; --to safetensors serves the same weights through torch"
    elif int8 and (broken := _lost(parity)):
        rule, way = f"eight bits {broken[0]}", f"use {name.removesuffix('-int8')}, or {broken[1]}"
    elif parity.served and (broken := _lost(parity.served)):
        rule, way = f"bfloat16 {broken[0]}", f"make the bundle with serve.precision=fp32, or {broken[1]}"
    else:
        return
    raise ParityError(f"{name} is refused, and nothing was written: {parity.sentence}; {rule}. Way out: {way}")


def check_written(name: str, expected: Scores, scores: Scores) -> None:
    """Raise `ParityError` if what was written does not give the scores in single precision that it was made for."""
    off = float(np.abs(scores.astype(np.float64) - expected).max(initial=0.0))
    if not off <= SCORES_AGREE:
        raise ParityError(
            f"{name} is refused, and nothing was written: what it would be read from gives scores that are off by "
            f"{off:.2g}, and may be off by {SCORES_AGREE:g}. Way out: {REPORT}"
        )


def _lost(parity: Parity) -> tuple[str, str] | None:
    """What fewer bits may lose, and what else can be done, if they lose more."""
    delta = parity.ndcg_delta
    if delta is None and not parity.kept >= MUST_KEEP:
        return f"must keep the order of {MUST_KEEP:.0%} of neighbours without judgements", "name one with --collection"
    if delta is not None and not delta >= -MAY_LOSE:
        return f"may lose {MAY_LOSE:g}", "measure on more queries (--queries), as few of them swing"
    return None


def _kept(first: Run, torch_scores: Scores, scores: Scores, tolerance: float) -> float:
    """The share of neighbours in torch's order, further apart than the tolerance, that the scores order the same."""
    same = total = start = 0
    for ranking in first.values():
        end = start + len(ranking.doc_ids)
        order = np.argsort(-torch_scores[start:end], kind="stable")
        apart = -np.diff(torch_scores[start:end][order]) > tolerance
        total += int(apart.sum())
        same += int((apart & (np.diff(scores[start:end][order]) < 0)).sum())
        start = end
    return same / total if total else 1.0


def _ndcg(first: Run, scores: Scores, qrels: Qrels) -> float | None:
    return mean(evaluate(first.rescored("reranked", scores), qrels, (MEASURE,))[MEASURE]) if qrels else None
