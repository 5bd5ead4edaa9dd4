"""What is recorded of a training: always as JSON lines, and by wandb or TensorBoard through Accelerate's trackers.

`run.json` says what the training is; `steps.jsonl` has one line a step, `dev.jsonl` one an evaluation. What a clock has
measured goes to `timing.jsonl`, so that the other two are equal to the bit whenever the training is.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from secondstage.config import TrainConfig
from secondstage.errors import UserError, in_a_line
from secondstage.files import write_json, writing_whole
from secondstage.parallel import workers

from .selection import MEASURE

RUN, STEPS, DEV, TIMING = "run.json", "steps.jsonl", "dev.jsonl", "timing.jsonl"
TENSORBOARD = "tensorboard"
# Of wandb's project, unless WANDB_PROJECT names another, and of TensorBoard's folder.
PROJECT = "secondstage"
WAYS_OUT = {
    "wandb": "run `wandb login`, or set WANDB_MODE=offline",
    "tensorboard": "pip install 'secondstage[tensorboard]'",
}


def check_tracker(config: TrainConfig) -> None:
    """See that wandb, unless it is offline, has an account that it lets in: before the work, not after it.

    Raises:
        UserError: it has none, or cannot ask.
    """
    if config.tracker != "wandb":
        return
    import wandb

    try:
        ready = wandb.setup().settings.mode in ("offline", "disabled") or wandb.login(prompt=False)
        reason = "" if ready else "nobody is logged in here"
    except Exception as error:  # wandb has kinds of its own
        reason = in_a_line(error)
    if reason:
        raise UserError(f"train.tracker=wandb cannot start: {reason}; {WAYS_OUT['wandb']}")


class StepRecord(NamedTuple):
    """One step of the optimizer, over all processes.

    Attributes:
        step: its number, from 0.
        progress: the share of the budget that was used before it.
        middle: the share in its middle, which its learning rate is that of.
        loss: the weighted sum.
        terms: the mean of each loss over the lists that counted for it, without its weight.
        learning_rate: of the uppermost layers.
        gradient_norm: before clipping; not finite where half precision skipped the step.
        lists: lists of the step.
        counted: lists that had something to compare, by loss.
        pairs: query-document pairs.
        tokens: with padding.
        padding: of these.
        seconds: it took, evaluations and checkpoints not included.
        by_clock: whether the budget is a clock's, so that a replay evaluates where this training did.
    """

    step: int
    progress: float
    middle: float
    loss: float
    terms: Mapping[str, float]
    learning_rate: float
    gradient_norm: float
    lists: int
    counted: Mapping[str, int]
    pairs: int
    tokens: int
    padding: int
    seconds: float
    by_clock: bool = False


class Tracking:
    """The files and the tracker of one training; only the lead process writes."""

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        """Write nothing yet.

        Args:
            config: names the tracker.
            folder: existing; it must outlive a kill if the training is to go on.
        """
        self.config, self.folder = config, folder
        self._lead = workers().lead
        self._lines: dict[str, int] = dict.fromkeys((STEPS, DEV, TIMING), 0)
        self._tracker: Any = None
        self._run: str | None = None

    def start(self, facts: Mapping[str, Any], state: Mapping[str, Any] | None = None) -> None:
        """Write the first file and start the tracker, after the Accelerator was made and before the first step.

        Args:
            facts: JSON: what the training is, for `run.json` and the tracker.
            state: what `state` gave at the checkpoint that the training goes on from: later lines are cut off.

        Raises:
            UserError: the tracker cannot start, or the files have lost lines that the checkpoint knows of.
        """
        if not self._lead:
            return
        self._lines |= (state or {}).get("lines", {})
        self._run = (state or {}).get("run")
        for name, lines in self._lines.items():
            cut(self.folder / name, lines)
        write_json(self.folder / RUN, facts)
        self._start_tracker(facts)
        self._show_again()

    def step(self, record: StepRecord) -> None:
        """Record one step."""
        if not self._lead:
            return
        line = record._asdict()
        seconds = line.pop("seconds")
        rates = {
            "pairs_per_s": record.pairs / seconds if seconds > 0 else math.nan,
            "tokens_per_s": (record.tokens - record.padding) / seconds if seconds > 0 else math.nan,
        }
        self._write(STEPS, line)
        self._write(TIMING, {"step": record.step, "seconds": seconds, **rates})
        waste = record.padding / record.tokens if record.tokens else math.nan
        del line["by_clock"]
        self._track({**line, **rates, "padding_waste": waste}, record.step)

    def evaluation(
        self, step: int, value: float, first_stage: float, *, kept: bool, seconds: float, **more: Any
    ) -> None:
        """Record one evaluation on dev.

        Args:
            step: optimizer steps made before it.
            value: nDCG@10 of the reranked lists.
            first_stage: nDCG@10 of the lists as they were.
            kept: whether these weights are kept.
            seconds: it took.
            more: deterministic values of any kind.
        """
        if not self._lead:
            return
        self._write(DEV, {"step": step, MEASURE: value, "first_stage": first_stage, "kept": kept, **more})
        self._write(TIMING, {"step": step, "evaluation_seconds": seconds})
        self._track_dev(step, value, first_stage)

    def state(self) -> dict[str, Any]:
        """What `start` needs to go on from here, for a checkpoint; all lines are on the disk before it returns."""
        for name in self._lines if self._lead else ():
            with (self.folder / name).open("rb+") as file:
                os.fsync(file.fileno())
        return {"lines": dict(self._lines), "run": self._run}

    def finish(self) -> None:
        """Close the tracker."""
        if self._tracker is not None:
            self._tracker.finish()
            self._tracker = None

    def _write(self, name: str, line: Mapping[str, Any]) -> None:
        # Nothing stays in this process: a kill leaves at most the last line cut.
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(_plain(line), allow_nan=False) + "\n")
        self._lines[name] += 1

    def _track_dev(self, step: int, value: float, first_stage: float) -> None:
        self._track({f"dev {MEASURE}": value, f"first stage {MEASURE}": first_stage}, step)

    def _track(self, line: Mapping[str, Any], step: int) -> None:
        if self._tracker is not None:
            values = {name: value for name, value in flat(_plain(line)).items() if value is not None}
            values.pop("step", None)
            self._tracker.log(values, step=step)

    def _start_tracker(self, facts: Mapping[str, Any]) -> None:
        if self.config.tracker == "none":
            return
        try:
            self._tracker = self._wandb() if self.config.tracker == "wandb" else self._tensorboard()
            self._tracker.start()
            self._tracker.store_init_configuration(flat(facts))
            self._run = self._tracker.tracker.id if self.config.tracker == "wandb" else None
        except Exception as error:  # wandb has kinds of its own
            self._tracker = None
            raise UserError(
                f"train.tracker={self.config.tracker} cannot start: {error}; {WAYS_OUT[self.config.tracker]}"
            ) from error

    def _wandb(self) -> Any:
        from accelerate import PartialState
        from accelerate.tracking import WandBTracker

        PartialState()  # Accelerate's trackers ask it which process this is
        # Online, wandb goes on with the run of this id; offline, `wandb sync` puts both parts together.
        project = os.environ.get("WANDB_PROJECT") or PROJECT
        return WandBTracker(project, id=self._run, resume=None if self._run is None else "allow")

    def _tensorboard(self) -> Any:
        from accelerate import PartialState
        from accelerate.tracking import TensorBoardTracker

        PartialState()
        # What an earlier process logged after the checkpoint is hidden, by the number of its step.
        return TensorBoardTracker(PROJECT, self.folder / TENSORBOARD, purge_step=self._lines[STEPS] or None)

    def _show_again(self) -> None:
        """The evaluation just before the checkpoint has the number of the step after it: TensorBoard has hidden it."""
        for line in read_lines(self.folder / DEV) if self.config.tracker == TENSORBOARD else ():
            if line["step"] == self._lines[STEPS]:
                self._track_dev(line["step"], line[MEASURE], line["first_stage"])


def cut(path: Path, lines: int) -> None:
    """Leave the first `lines` lines of a file, which need not exist, and nothing of a line that was cut by a kill.

    Raises:
        UserError: there are fewer.
    """
    whole = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in whole if line.endswith(b"\n")]
    if len(whole) < lines:
        raise UserError(
            f"{path} has {len(whole)} lines, but the checkpoint was written after {lines}: it was changed since; "
            f"delete {path.parent} to train from the start"
        )
    with writing_whole(path) as temporary:
        temporary.write_bytes(b"".join(whole[:lines]))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that `Tracking` wrote; none if it is not there."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def flat(record: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested keys joined by a slash; other values than numbers and texts become texts: trackers take no others."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{name}/")
        else:
            found[before + name] = value if isinstance(value, bool | int | float | str | None) else json.dumps(value)
    return found


def _plain(value: Any) -> Any:
    """JSON has no numbers that are not finite: they become null."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
