"""What comes next: progress, checkpoints, and a signal that is heeded."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from secondstage.config import TrainConfig
from secondstage.train.budget import Steps
from secondstage.train.pace import Pace


def config(**settings: Any) -> TrainConfig:
    return TrainConfig(model="none", steps=8, **settings)


@pytest.mark.parametrize(
    ("settings", "due"),
    [
        # By the clock, which tells two minutes a step: after five have passed since the last one.
        ({}, [3, 6]),
        ({"checkpoint_minutes": 2.0}, [1, 2, 3, 4, 5, 6, 7]),
        ({"checkpoint_steps": 3}, [3, 6]),
        ({"checkpoint_steps": 1}, [1, 2, 3, 4, 5, 6, 7]),
    ],
)
@pytest.mark.parametrize("takes", [0, 600])
def test_checkpoints_are_due_by_the_clock_or_by_steps(settings: dict[str, Any], due: list[int], takes: int) -> None:
    """However long one takes: the time to the next counts from its end."""
    now = 1000.0
    pace = Pace(Steps(8), config(**settings), lambda: now, lambda: False)
    found = []
    for step in range(8):
        decision = pace.ask(step, 0)
        assert decision.progress == step / 8
        assert not decision.stop
        if decision.save:
            found.append(step)
            now += takes
            pace.saved()
        now += 120
    assert found == due


def test_a_signal_is_noted_and_the_old_handling_comes_back() -> None:
    """In a process of its own: libraries that other tests have loaded do not all bear signals."""
    script = """
import os, signal
from secondstage.config import TrainConfig
from secondstage.train.budget import Steps
from secondstage.train.pace import Pace, heeding_signals

before = signal.getsignal(signal.SIGTERM)
with heeding_signals() as came:
    pace = Pace(Steps(8), TrainConfig(model="none", steps=8), lambda: 0.0, came)
    assert not pace.ask(0, 0).stop
    os.kill(os.getpid(), signal.SIGTERM)
    assert came()
    assert pace.ask(1, 0).stop
assert signal.getsignal(signal.SIGTERM) is before
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_the_first_interrupt_is_noted_and_the_second_does_not_wait() -> None:
    script = """
import os, signal, sys
from secondstage.train.pace import heeding_signals

signal.signal(signal.SIGINT, signal.SIG_IGN)
with heeding_signals() as came:
    os.kill(os.getpid(), signal.SIGINT)
    assert not came()
signal.signal(signal.SIGINT, signal.default_int_handler)
with heeding_signals() as came:
    os.kill(os.getpid(), signal.SIGINT)
    assert came()
    try:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it waits")
    except KeyboardInterrupt:
        pass
try:
    os.kill(os.getpid(), signal.SIGINT)
    raise AssertionError("the old handling is not back")
except KeyboardInterrupt:
    pass
sys.stderr.flush()
os.close(2)  # as `2>&1 | tee log`, whose tee the same Ctrl-C has ended
with heeding_signals() as came:
    os.kill(os.getpid(), signal.SIGINT)
    assert came()
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=120, capture_output=True, text=True)
    assert "stopping after this step, with a checkpoint; again to stop at once" in done.stderr
