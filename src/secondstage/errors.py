"""The one exception that a user's mistake raises, and the report that collects several of them."""

from __future__ import annotations

from collections import Counter

MAX_SHOWN = 20


class UserError(Exception):
    """A mistake that the user can mend: the message names the value, the rule and the way out.

    The command line prints it without a stack trace and exits with code 2.
    """


class UnreachableError(UserError):
    """What this process asks elsewhere does not answer: nothing is wrong with what was asked."""


class StoppedError(Exception):
    """Work that SIGTERM or Ctrl-C stopped, and that has kept what is needed to go on. The command line exits with 4."""


def in_a_line(error: Exception) -> str:
    """The first line of what an error says; its kind too, where the words alone would not tell, as of a missing key."""
    kind, lines = type(error).__name__, str(error).strip().splitlines()
    if not lines:
        return kind
    said = " ".join(line.strip() for line in lines[: 1 + lines[0].endswith(":")])
    return said if isinstance(error, (UserError, OSError, ValueError, RuntimeError, ImportError)) else f"{kind}: {said}"


class Faults:
    """Collects the faults of one input, so that all of them are reported at once.

    Only the first `MAX_SHOWN` messages are kept; the rest are counted. What is passed over, and is no fault, is counted
    by what it is.
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.count = 0
        self._messages: list[str] = []
        self._passed_over: Counter[str] = Counter()

    def add(self, message: str) -> None:
        """Record one fault."""
        self.count += 1
        if self.count <= MAX_SHOWN:
            self._messages.append(message)

    def pass_over(self, what: str) -> None:
        """Count one thing that is left out though nothing is wrong with it."""
        self._passed_over[what] += 1

    def notes(self) -> list[str]:
        """What was passed over, in words."""
        return [f"{what}: {count}" for what, count in self._passed_over.items()]

    @property
    def messages(self) -> tuple[str, ...]:
        """The messages kept so far, in the order they were added."""
        return tuple(self._messages)

    def report(self) -> str:
        """All faults as one text: a headline with their number, then one line each."""
        noun = "fault" if self.count == 1 else "faults"
        lines = [f"{self.subject}: {self.count} {noun}", *(f"  {message}" for message in self._messages)]
        if self.count > len(self._messages):
            lines.append(f"  … and {self.count - len(self._messages)} more")
        return "\n".join(lines)

    def raise_if_any(self, way_out: str = "") -> None:
        """Raise `UserError` with the whole report if anything was added."""
        if self.count:
            raise UserError(self.report() + (f"\n{way_out}" if way_out else ""))
