"""How long to train: in steps, in epochs, in minutes, or as an earlier run did. All give a progress from 0 to 1."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.inputs import replayed_steps

# The first step of a clock budget is over before it is known how long it takes: it learns as at this share, at least.
FIRST = 0.005


class Budget(Protocol):
    """A source of progress, asked once before every step.

    Attributes:
        by_clock: whether evaluations use the budget up too.
    """

    @property
    def by_clock(self) -> bool: ...  # noqa: D102

    def progress(self, step: int, lists: int) -> float:
        """The share of the budget that is used after `step` steps over `lists` lists; 1 or more ends the training."""
        ...

    def middle(self, progress: float, step: int, lists: int, more: int) -> float:
        """The share that is used in the middle of the step that is next, below 1 and above 0: its learning rate.

        Args:
            progress: before it, as all processes know it.
            step: steps made before it.
            lists: lists seen before it.
            more: its own lists.
        """
        ...


class Steps:
    """A number of optimizer steps."""

    by_clock = False

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def progress(self, step: int, lists: int) -> float:
        """Steps made by steps to make."""
        return step / self.steps

    def middle(self, progress: float, step: int, lists: int, more: int) -> float:
        """Half a step further."""
        return (step + 0.5) / self.steps


class Epochs:
    """A number of passes over the lists, in whole or in part."""

    by_clock = False

    def __init__(self, epochs: float, lists: int) -> None:
        self.lists = epochs * lists

    def progress(self, step: int, lists: int) -> float:
        """Lists seen by lists to see."""
        return lists / self.lists

    def middle(self, progress: float, step: int, lists: int, more: int) -> float:
        """Half of its lists further, as far as they are in the budget."""
        return (lists + min(lists + more, self.lists)) / 2 / self.lists


class Minutes:
    """Wall-clock time, evaluations included."""

    by_clock = True

    def __init__(self, minutes: float, clock: Callable[[], float]) -> None:
        """Allow so many minutes of what the clock tells, in seconds."""
        self.seconds, self.clock = 60 * minutes, clock

    def progress(self, step: int, lists: int) -> float:
        """Time passed by time allowed."""
        return self.clock() / self.seconds

    def middle(self, progress: float, step: int, lists: int, more: int) -> float:
        """Its beginning: steps are many. Only the very first would learn nothing."""
        return max(progress, FIRST)


class Replay:
    """The progress that an earlier run recorded: the way to repeat a time budget exactly, on a machine of any speed."""

    def __init__(self, progress: Sequence[float], middle: Sequence[float], *, by_clock: bool = False) -> None:
        self.recorded, self.middles, self.by_clock = progress, middle, by_clock

    @classmethod
    def read(cls, path: Path) -> Replay:
        """Read the `steps.jsonl` of an earlier run."""
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            clock = any(line.get("by_clock", False) for line in lines)
            progress = [float(line["progress"]) for line in lines]
            # Earlier versions learnt as at the beginning of a step.
            middle = [float(line.get("middle", line["progress"])) for line in lines]
            return cls(progress, middle, by_clock=clock)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"train.replay: {path} is not the steps.jsonl of an earlier run ({error})") from None

    def progress(self, step: int, lists: int) -> float:
        """What was recorded for this step."""
        return self.recorded[step] if step < len(self.recorded) else 1.0

    def middle(self, progress: float, step: int, lists: int, more: int) -> float:
        """What was recorded for this step."""
        return self.middles[step]


def stopwatch(used: float = 0.0) -> Callable[[], float]:
    """A clock that tells the seconds since now, and those that were `used` before a training was stopped."""
    start = time.monotonic() - used
    return lambda: time.monotonic() - start


def make_budget(config: TrainConfig, lists: int, clock: Callable[[], float]) -> Budget:
    """The budget that the configuration names, of a training over so many lists."""
    if config.steps is not None:
        return Steps(config.steps)
    if config.epochs is not None:
        return Epochs(config.epochs, lists)
    if config.minutes is not None:
        return Minutes(config.minutes, clock)
    assert config.replay is not None
    return Replay.read(replayed_steps(config.replay))
