"""A server that is sent JSON and may be busy: requests side by side, attempts repeated after a pause, both counted."""

from __future__ import annotations

import json
import os
import random
import re
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from email.utils import parsedate_to_datetime
from itertools import islice
from threading import Event, Lock
from typing import Any, NamedTuple, TypeVar

from .config import EndpointConfig
from .errors import UserError
from .refusals import BARRED, STATUSES, BarredError, Refusals, RefusedError, UnreadableError

K = TypeVar("K")
R = TypeVar("R")
Body = Mapping[str, Any]

# Characters of an answer that an error shows.
EXCERPT = 200
# Seconds between two attempts, at most, whatever the server asks for.
LONGEST_PAUSE = 60.0
# Attempts for an answer that can be read, and for one that comes in time; more would be paid for in vain.
READINGS = 2
# In place of a status: the server took the request, and gave no answer in time.
LATE = -1
# No user before the host: that is where some put a key, and errors show the address.
ADDRESS = r"https?://(\[[\da-fA-F:.]+\]|[^\s/?#:@\[\]]+)(:\d+)?([/?]\S*)?"


class Kind(NamedTuple):
    """What errors say of an endpoint: what it is called, an address for example, the way out if too much is sent."""

    noun: str
    example: str
    too_large: str


class Endpoint:
    """One address that is sent JSON by POST.

    Attributes:
        url: the address.
        requests: how many were sent, every attempt counted.
        retries: how many of them repeated one that failed.
        refusals: how many jobs were answered, and how many left out.
    """

    def __init__(self, config: EndpointConfig, kind: Kind, *, backoff: float = 1.0) -> None:
        """Nothing is sent yet.

        Args:
            config: its address, key and patience.
            kind: what errors say.
            backoff: seconds before the first retry, doubled for each further one.

        Raises:
            UserError: the environment variable with the key is not set, the address is none, or the key holds what no
                key does.
        """
        import httpx

        self._key = key_from(config.api_key_env)
        if not re.fullmatch(ADDRESS, config.url):
            raise UserError(f"{kind.noun} has an address such as {kind.example}, and no key in it")
        # An HTTP library would show the whole header in its complaint.
        if not re.fullmatch("[!-~]*", self._key):
            raise UserError(f"the API key for {config.url} holds white space or letters beyond ASCII: copy it anew")
        self.url = config.url
        self.requests = self.retries = 0
        self.refusals = Refusals()
        self._config, self._kind, self._backoff = config, kind, backoff
        self._lock = Lock()
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx.Limits(max_connections=config.concurrency)
        self._client = httpx.Client(headers=headers, timeout=config.timeout, limits=limits)
        weakref.finalize(self, self._client.close)

    def ask(
        self,
        jobs: Iterable[tuple[K, Body]],
        read: Callable[[K, bytes], R],
        *,
        proven: bool = False,
        probe: bool = False,
    ) -> Iterator[tuple[K, R | None]]:
        """Send every body; what was answered before an error, or while it came up, is still given.

        A request is left out if the server refuses its content, or if its answers cannot be read, as long as others are
        answered; see `Refusals`.

        Args:
            jobs: (key, body) of each request, taken when its turn is near.
            read: makes what is wanted of a key's answer; a `ValueError` says what is wrong with it.
            proven: whether the server answered such requests before.
            probe: whether it is no error if it refuses all.

        Returns:
            (key, what was read), in the order of the answers; none for what is left out.

        Raises:
            UserError: the server wants no requests, gave no answer after all retries, or refused all of so
                many jobs that it is not their content: the first of these, once the requests under way have
                ended. What waits for its turn or for a retry is given up.
        """
        waiting, stop, under_way, failure = iter(jobs), Event(), dict[Future[R], K](), None
        with ThreadPoolExecutor(self._config.concurrency) as pool:
            try:
                while True:
                    for key, body in islice(waiting, 2 * self._config.concurrency - len(under_way)):
                        under_way[pool.submit(self._answer, key, body, read, stop)] = key
                    if not under_way:
                        break
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        key = under_way.pop(future)
                        try:
                            found = self.refusals.counted(future.result, proven=proven, probe=probe)
                        except (UserError, CancelledError) as error:
                            failure = failure or error
                            waiting = iter(())
                            give_up(stop, under_way)
                        else:
                            yield key, found
            finally:
                give_up(stop, under_way)
        if failure := failure or self.refusals.failure(proven=proven or probe):
            raise failure

    def _answer(self, key: K, body: Body, read: Callable[[K, bytes], R], stop: Event) -> R:
        """One answer, in as many attempts as it takes or as there are."""
        attempt = readings = late = 0
        while True:
            try:
                return read(key, self._send(body, attempt))
            except ValueError as error:
                attempt, readings = attempt + 1, readings + 1
                if readings == READINGS or attempt > self._config.retries or stop.is_set():
                    raise UnreadableError(f"{self.url}: {error}") from None
            except _BusyError as busy:
                problem, status, retry_after = busy.args
                attempt, late = attempt + 1, late + (status == LATE)
                seconds = pause(attempt, retry_after, base=self._backoff, jitter=random.random())
                if late == READINGS or attempt > self._config.retries or stop.wait(seconds):
                    advice = way_out(status, kind=self._kind)
                    raise UserError(f"{self.url}: {problem}, in {attempt} attempts; {advice}") from None

    def _send(self, body: Body, attempt: int) -> bytes:
        import httpx

        with self._lock:
            self.requests += 1
            self.retries += attempt > 0
        try:
            # ASCII: half a character, as broken texts hold, can be escaped but not encoded.
            response = self._client.post(self.url, content=json.dumps(body).encode("ascii"))
        except httpx.ReadTimeout:
            raise _BusyError(f"no answer within {self._config.timeout:g} seconds", LATE, "") from None
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise _BusyError(str(error) or type(error).__name__, 0, "") from None
        status = response.status_code
        if response.is_success:
            return response.content
        # A server may repeat the key that it refuses.
        text = response.text.replace(self._key, "…") if self._key else response.text
        problem = f"status {status}, {text[:EXCERPT]!r}"
        if status in (408, 429) or status >= 500:
            raise _BusyError(problem, status, response.headers.get("Retry-After", ""))
        refusal = BarredError if status == BARRED else RefusedError if status in STATUSES else UserError
        raise refusal(f"{self.url}: {problem}; {way_out(status, self._config.api_key_env, kind=self._kind)}")


class _BusyError(Exception):
    """What was wrong, the status (0 for no answer, or LATE) and the Retry-After header: worth another attempt."""


def give_up(stop: Event, under_way: Iterable[Future[Any]]) -> None:
    """End the pauses, and cancel what was not sent yet."""
    stop.set()
    for future in under_way:
        future.cancel()


def key_from(api_key_env: str | None) -> str:
    """The key in the environment variable of that name; empty if there is no name.

    Raises:
        UserError: that variable is not set.
    """
    if not api_key_env:
        return ""
    key = os.environ.get(api_key_env, "").strip()
    if not key:
        # What is not written like the name of a variable may be the key itself.
        name = api_key_env if re.fullmatch("[A-Z][A-Z0-9_]{0,39}", api_key_env) else "that api_key_env names"
        raise UserError(
            f"the environment variable {name} is not set: export the API key, or leave api_key_env empty for none"
        )
    return key


def pause(attempts: int, retry_after: str, *, base: float, jitter: float) -> float:
    """Seconds before a retry: exponential backoff, or longer where the server says so, but never too long.

    `attempts` failed; `retry_after` is the header (RFC 9110), in seconds, a date or empty; `base` is the first pause;
    `jitter`, from [0, 1), takes off up to half, so that clients that failed together do not come back together.
    """
    number, asked = re.fullmatch(r"\d+(\.\d+)?", retry_after), 0.0
    with suppress(ValueError, OverflowError):
        asked = float(retry_after) if number else parsedate_to_datetime(retry_after).timestamp() - time.time()
    own = base * 2.0 ** min(attempts - 1, 30) * (1 - jitter / 2)
    return min(LONGEST_PAUSE, max(own, asked))


def way_out(status: int, key_name: str | None = None, *, kind: Kind) -> str:
    """What to do about an HTTP status that is no success; 0 is no answer at all, LATE none in time."""
    if status in (401, BARRED):
        content = "unless it is about what was sent, " if status == BARRED else ""
        return f"{content}check the API key, which {f'is read from {key_name}' if key_name else 'api_key_env can name'}"
    if status == LATE:
        return "raise timeout, for most servers send nothing before an answer is complete, or lower concurrency"
    if status == 0 or status >= 500:
        return "check that the server runs and can be reached, then try again"
    if status in (400, 422):
        return (
            f"the usual causes are too long an input ({kind.too_large}), a content filter, a parameter that this "
            "server does not take, and the name of the model"
        )
    busy = "lower concurrency, or try again later"
    known = {408: busy, 413: kind.too_large, 429: busy}
    return known.get(status, "check the URL, path included, and the name of the model")


def whole(value: object) -> int:
    """A count that a server told; 0 if it is none."""
    return value if type(value) is int and value > 0 else 0
