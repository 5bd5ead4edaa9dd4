"""A clock for trainings on which only what a test says takes time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from secondstage.train.loop import Loop


def steps_take(seconds: float, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let each step of a training take so long, and all else nothing. Gives the clock, one number to add to."""
    now, step = [0.0], Loop._step

    def stopwatch(used: float = 0.0) -> Callable[[], float]:
        start = now[0] - used
        return lambda: now[0] - start

    def stepping(self: Loop, *args: Any) -> float:
        now[0] += seconds
        return step(self, *args)

    monkeypatch.setattr("secondstage.train.loop.stopwatch", stopwatch)
    monkeypatch.setattr(Loop, "_step", stepping)
    return now
