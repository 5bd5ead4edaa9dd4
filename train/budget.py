"""How long to train: in steps, in epochs, in minutes, or as an earlier run did. All give a progress from 0 to 1."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from secondstage.config import TrainConfig
from secondstage.errors import UserError


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


class Steps:
    """A number of optimizer steps."""

    by_clock = False

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def progress(self, step: int, lists: int) -> float:
        """Steps made by steps to make."""
        return step / self.steps


class Epochs:
    """A number of passes over the lists, in whole or in part."""

    by_clock = False

    def __init__(self, epochs: float, lists: int) -> None:
        self.lists = epochs * lists

    def progress(self, step: int, lists: int) -> float:
        """Lists seen by lists to see."""
        return lists / self.lists


class Minutes:
    """Wall-clock time, evaluations included."""

    by_clock = True

    def __init__(self, minutes: float, clock: Callable[[], float]) -> None:
        """Allow so many minutes of what the clock tells, in seconds."""
        self.seconds, self.clock = 60 * minutes, clock

    def progress(self, step: int, lists: int) -> float:
        """Time passed by time allowed."""
        return self.clock() / self.seconds


class Replay:
    """The progress that an earlier run recorded: the way to repeat a time budget exactly, on a machine of any speed."""

    def __init__(self, progress: Sequence[float], *, by_clock: bool = False) -> None:
        self.recorded, self.by_clock = progress, by_clock

    @classmethod
    def read(cls, path: Path) -> Replay:
        """Read the `steps.jsonl` of an earlier run, or the folder that holds it."""
        path = path.expanduser()
        path = path / "steps.jsonl" if path.is_dir() else path
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            clock = any(line.get("by_clock", False) for line in lines)
            return cls([float(line["progress"]) for line in lines], by_clock=clock)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"train.replay: {path} is not the steps.jsonl of an earlier run ({error})") from None

    def progress(self, step: int, lists: int) -> float:
        """What was recorded for this step."""
        return self.recorded[step] if step < len(self.recorded) else 1.0


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
    return Replay.read(Path(config.replay))
