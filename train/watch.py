"""Watches a training for failures, cheaply; each is said once, in words, and what is broken ends it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.files import write_json
from secondstage.parallel import gather, own_file, workers
from secondstage.progress import say, worded

from .examples import Example
from .findings import below, clipped, collapsed, random_order, saturated, unmoved

# Steps that a finding rests on.
WINDOW = 20
# Of the budget, before scores are judged: a new head needs some steps.
EARLY, HALF = 0.25, 0.5
# Lists that an error names.
SHOWN = 5
BROKEN = "broken.json"


class Watch:
    """What was found in one training; `findings` are those that still hold, by kind.

    Every process feeds its own share of the scores; the lead says what it finds.
    """

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        """Write nothing yet.

        Args:
            config: of the training.
            folder: existing; a batch that breaks the training is written there.
        """
        self.config, self.folder = config, folder
        self.findings: dict[str, str] = {}
        self._said: set[str] = set()
        self._steps = self._skipped = 0
        self._windows: dict[str, deque[float]] = {
            name: deque(maxlen=WINDOW) for name in ("losses", "constants", "spreads", "sizes", "norms")
        }
        self._seen: list[tuple[Sequence[Example], Tensor, Tensor]] = []

    def scores(self, examples: Sequence[Example], scores: Tensor, mask: Tensor) -> None:
        """Look at a micro-batch; nothing is waited for on the device yet.

        Args:
            examples: its lists.
            scores: `[lists, candidates]`.
            mask: `[lists, candidates]`, true where there is a candidate.
        """
        self._seen.append((examples, scores.detach(), mask))

    def forget(self) -> None:
        """Forget the scores that no step was told of."""
        self._seen = []

    def step(self, progress: float, loss: float, norm: float | None, *, constant: float) -> None:
        """Look at a step, after its micro-batches.

        Args:
            progress: the share of the budget that is used.
            loss: over all processes.
            norm: of the gradient, before clipping; none where loss scaling skipped the step, as it may.
            constant: the same loss if every score were 0.

        Raises:
            UserError: loss or gradient is not finite, or too many steps in a row were skipped.
        """
        self._skipped = self._skipped + 1 if norm is None else 0
        usable = math.isfinite(loss) and (norm is None or math.isfinite(norm))
        if not usable or self._skipped > WINDOW:
            self._refuse("loss" if not math.isfinite(loss) else "gradient", loss, norm)
        self._feed(loss, norm, constant)
        if self._steps >= WINDOW and progress >= EARLY:
            self.note("collapsed", collapsed(self._windows["spreads"]))
            self.note("saturated", saturated(self._windows["sizes"]))
        if self._steps >= 2 * WINDOW and progress >= HALF:
            self.note("unmoved", unmoved(self._windows["losses"], self._windows["constants"]))
            self.note("clipped", clipped(self._windows["norms"], self.config.clip))

    def end(self, value: float, first_stage: float, queries: int, chance: tuple[float, float]) -> None:
        """Look at the weights that are kept.

        Args:
            value: nDCG@10 on dev.
            first_stage: of the lists as they were.
            queries: of dev.
            chance: what `checks.chance` gave for the same lists.
        """
        at_random = random_order(value, *chance)
        self.note("random", at_random)
        self.note("below", "" if at_random else below(value, first_stage, queries))

    def note(self, kind: str, text: str) -> None:
        """Keep a finding for as long as it is one, that is until an empty text of its kind; say the first of a kind."""
        text = worded(text)
        if not text:
            self.findings.pop(kind, None)
            return
        self.findings.setdefault(kind, text)
        if kind not in self._said and workers().lead:
            say(f"  ! {text}")
        self._said.add(kind)

    def state(self) -> dict[str, Any]:
        """JSON, for a checkpoint."""
        windows = {name: list(values) for name, values in self._windows.items()}
        counts = {"steps": self._steps, "skipped": self._skipped}
        return {"findings": dict(self.findings), "windows": windows, **counts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.findings = dict(state["findings"])
        self._said = set(self.findings)
        self._steps, self._skipped = state["steps"], state["skipped"]
        self._windows = {name: deque(values, maxlen=WINDOW) for name, values in state["windows"].items()}

    def _feed(self, loss: float, norm: float | None, constant: float) -> None:
        self._steps += 1
        found = torch.cat([sizes_of(scores, mask) for _, scores, mask in self._seen] or [torch.empty(0, 2)])
        self._seen = []
        spread, size = found.median(0).values.tolist() if len(found) else (None, None)
        values = {"losses": loss, "constants": constant, "spreads": spread, "sizes": size, "norms": norm}
        for name, value in values.items():
            if value is not None:
                self._windows[name].append(value)

    def _refuse(self, what: str, loss: float, norm: float | None) -> NoReturn:
        lists = [one for batch in self._seen for one in _lists(*batch)]
        # All processes come here together; the broken list may be another's.
        blamed = [one for part in gather([one for one in lists if one["broken"]]) for one in part]
        path = own_file(self.folder / BROKEN)
        write_json(path, {"step": self._steps, "loss": str(loss), "gradient_norm": str(norm), "lists": lists})
        names = "; ".join(f"{one['query_id']} with {', '.join(one['doc_ids'][:SHOWN])}" for one in blamed[:SHOWN])
        where = f"not finite are the scores of {names}" if blamed else "the scores of all its lists are finite"
        half = "" if self.config.precision == "fp32" else ", or set train.precision=fp32"
        raise UserError(
            f"the {what} is not finite at step {self._steps}: lower train.learning_rate "
            f"({self.config.learning_rate:g}){half}; {where}; the whole batch is in {path}"
        )


def sizes_of(scores: Tensor, mask: Tensor) -> Tensor:
    """`[lists, 2]`: of each list the largest minus the smallest score, and the largest absolute one.

    Args:
        scores: `[lists, candidates]`.
        mask: `[lists, candidates]`, true where there is a candidate; lists of one candidate are left out.
    """
    kept = mask.sum(1) > 1
    scores, mask = scores.detach().float()[kept], mask[kept]
    high = scores.masked_fill(~mask, -math.inf).amax(1)
    low = scores.masked_fill(~mask, math.inf).amin(1)
    return torch.stack([high - low, torch.maximum(high.abs(), low.abs())], dim=1)


def _lists(examples: Sequence[Example], scores: Tensor, mask: Tensor) -> list[dict[str, Any]]:
    """Each list with its scores as text, which may be not finite, and whether they are."""
    rows = [row[kept].tolist() for row, kept in zip(scores.float(), mask, strict=True)]
    return [
        {
            "query_id": example.query_id,
            "doc_ids": list(example.doc_ids),
            "scores": [str(score) for score in row],
            "broken": not all(map(math.isfinite, row)),
        }
        for example, row in zip(examples, rows, strict=True)
    ]
