"""Requests that a server refuses for what is in them: left out and counted, as long as it answers others.

One prompt that a content filter stops, or one document that is too long, must not end a run of thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .errors import UserError
from .progress import say

R = TypeVar("R")

# HTTP statuses that are about one request's content; any other concerns all requests.
STATUSES = frozenset({400, 413, 422})
# That of a moderated prompt, but also of a key that may not.
BARRED = 403
# So many refused before one is answered: then it is not their content.
HOPELESS = 10


class RefusedError(Exception):
    """Why one request is left out."""


class BarredError(RefusedError):
    """The same, but it may be the key."""


class UnreadableError(RefusedError):
    """The same, for the answer and not the request is at fault."""


class HopelessError(UserError):
    """Nothing but refusals: it is not their content, or each holds something that is refused."""


class Refusals:
    """Tells a request that is refused from a server that refuses everything.

    Attributes:
        answered: how many requests were.
        refused: how many were not.
    """

    def __init__(self) -> None:
        self.answered = self.refused = 0
        self._reason, self._said = "", False
        self._barred = self._unreadable = 0

    def counted(self, result: Callable[[], R], *, proven: bool, probe: bool = False) -> R | None:
        """The result of one request; none if it is left out. The first reason is said as soon as another is answered.

        Raises:
            UserError: `HOPELESS` requests were refused, this is no `probe`, and none was answered, now or, if `proven`,
                earlier: a `HopelessError`, unless all answers were at fault. Or so many were barred one after the
                other that the key is no longer taken.
        """
        try:
            found = result()
            self.answered += 1
            self._barred = 0
        except RefusedError as refusal:
            found = None
            self.refused += 1
            self._reason = self._reason or str(refusal)
            self._unreadable += isinstance(refusal, UnreadableError)
            self._barred += isinstance(refusal, BarredError)
            if self.answered and self._barred == HOPELESS:
                raise UserError(f"{refusal} (so for the last {HOPELESS} requests)") from None
        if failure := self.failure(proven=proven or probe, enough=HOPELESS):
            raise failure
        if self.refused and (proven or self.answered) and not self._said:
            self._said = True
            say(f"  {self._reason}\n  such requests are left out, and counted")
        return found

    def failure(self, *, proven: bool, enough: int = 1) -> UserError | None:
        """The error that ends it all, if so many were refused and none was answered."""
        if proven or self.answered or self.refused < enough:
            return None
        error = HopelessError if self.refused > self._unreadable else UserError
        return error(self._reason + (f" (so for all of {self.refused} requests)" if self.refused > 1 else ""))
