"""What comes next, asked before every step. Clocks and signals differ between processes: the lead decides for all."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from secondstage.config import TrainConfig
from secondstage.parallel import gather
from secondstage.progress import say

from .budget import Budget


class Decision(NamedTuple):
    """What all processes do next.

    Attributes:
        progress: the share of the budget that is used; 1 or more ends the training.
        save: whether a checkpoint is due.
        stop: whether one of the processes was asked to stop.
    """

    progress: float
    save: bool
    stop: bool


class Pace:
    """Asks the clocks."""

    def __init__(
        self, budget: Budget, config: TrainConfig, clock: Callable[[], float], stopped: Callable[[], bool]
    ) -> None:
        """Start counting.

        Args:
            budget: of the training.
            config: how often checkpoints are due.
            clock: seconds of training.
            stopped: whether this process was asked to stop.
        """
        self.budget, self.config, self.clock, self.stopped = budget, config, clock, stopped
        self._saved = clock()

    def ask(self, step: int, lists: int) -> Decision:
        """What comes after `step` steps over `lists` lists."""
        every = self.config.checkpoint_steps
        late = self.clock() - self._saved >= 60 * self.config.checkpoint_minutes
        due = step > 0 and step % every == 0 if every else late
        found = gather([self.budget.progress(step, lists), due, self.stopped()])
        return Decision(found[0][0], bool(found[0][1]), any(stop for *_, stop in found))

    def saved(self) -> None:
        """A checkpoint was written: from now on the time to the next one counts, however long this one took."""
        self._saved = self.clock()


@contextlib.contextmanager
def heeding_signals() -> Iterator[Callable[[], bool]]:
    """Note SIGTERM and Ctrl-C instead of dying of them. Gives a function that tells whether one came.

    A second Ctrl-C does not wait for the step. Outside the main thread no signal arrives: then nothing is changed.
    """
    came = threading.Event()

    def note(number: int, _: Any) -> None:
        again = came.is_set()
        came.set()
        if number == signal.SIGINT:
            if again:
                raise KeyboardInterrupt
            # Whoever reads what is said has got the same Ctrl-C, and may be gone.
            with contextlib.suppress(OSError, RuntimeError):
                say("  stopping after this step, with a checkpoint; again to stop at once")

    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    # What a shell has told a job in the background to ignore stays ignored.
    heeded = [each for each in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(each) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heeded}
    try:
        yield came.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
