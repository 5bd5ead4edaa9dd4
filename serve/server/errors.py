"""Why a request has no answer; each API says it in its own words (`refusing.py`)."""

from __future__ import annotations

import time


class RefusalError(Exception):
    """A request that gets no answer.

    Attributes:
        kind: one word, for signals and for the choice of the status.
    """

    kind = "refused"


class InvalidError(RefusalError):
    """The request breaks a rule.

    Attributes:
        field: which part of it; empty for the whole.
    """

    kind = "invalid"

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class MalformedError(RefusalError):
    """The body is no JSON, or JSON that no API sends."""

    kind = "malformed"


class EmptyError(InvalidError):
    """There is nothing to score."""

    kind = "empty"


class TooManyError(InvalidError):
    """More texts in one request than are taken."""

    kind = "too_many"


class UnsupportedError(RefusalError):
    """The body is said to be something else than JSON."""

    kind = "unsupported"

    def __init__(self) -> None:
        super().__init__("the body must be JSON, and the header Content-Type must say so: application/json")


class SlowError(RefusalError):
    """The body did not arrive in time."""

    kind = "slow"

    def __init__(self) -> None:
        super().__init__("the body did not arrive before the deadline")


class MissingError(RefusalError):
    """There is nothing of that name, or it is not set up."""

    kind = "missing"


class TooLargeError(RefusalError):
    """More than is taken: trying again does not help."""

    kind = "too_large"


class UnauthorizedError(RefusalError):
    """No API key, or an unknown one."""

    kind = "unauthorized"


class OverloadedError(RefusalError):
    """The queue is full.

    Attributes:
        retry_after: seconds, estimated from what waits and the measured rate.
    """

    kind = "overloaded"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the server is overloaded: try again in {retry_after} s")
        self.retry_after = retry_after


class ExpiredError(RefusalError):
    """The deadline passed first."""

    kind = "expired"

    def __init__(self) -> None:
        super().__init__("the deadline passed before the scores were there: send less at once, or give more time")


def time_left(deadline: float | None) -> float | None:
    """Seconds until a deadline, as `time.monotonic` tells it, or none without one; `ExpiredError` if it has passed."""
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left <= 0:
        raise ExpiredError
    return left


class UnavailableError(RefusalError):
    """What the server itself asks, such as Milvus, does not answer; only its log says where that is."""

    kind = "unavailable"

    def __init__(self) -> None:
        super().__init__("the first stage does not answer: try again later")


class BrokenError(RefusalError):
    """The model failed on these pairs, or gave a score that is not finite."""

    kind = "broken"

    def __init__(self, message: str = "the model gave no finite score for this request") -> None:
        super().__init__(message)


class StoppingError(RefusalError):
    """The server accepts no more requests."""

    kind = "stopping"

    def __init__(self) -> None:
        super().__init__("the server is stopping: ask another one")


class GoneError(RefusalError):
    """The client has hung up; nobody reads the answer."""

    kind = "gone"
