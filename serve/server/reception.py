"""Takes requests in: key, size, time and JSON are checked, and who hangs up frees their work."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from secondstage.config import ServerConfig
from secondstage.errors import UnreachableError, UserError

from .conventions import Api, read_json
from .errors import (
    BrokenError,
    GoneError,
    InvalidError,
    OverloadedError,
    RefusalError,
    SlowError,
    StoppingError,
    TooLargeError,
    UnavailableError,
    UnsupportedError,
    time_left,
)
from .keys import Keys
from .refusing import refuse
from .service import Service, new_id

log = logging.getLogger("secondstage.server")

DEADLINE = "X-Deadline-Ms"
# The id of a request, in its answer: that of its line in the journal. None is taken from outside: whoever repeats one
# would have clicks weighed against the list of another search.
REQUEST_ID = "X-Request-Id"
MIB = 1 << 20
# Seconds after which to try again where there was no room for a body.
RETRY = 1
T = TypeVar("T")


class Taken(NamedTuple):
    """A request that was taken in.

    Attributes:
        request_id: a new one.
        data: its body.
        deadline: as `time.monotonic` tells; none waits for ever.
    """

    request_id: str
    data: dict[str, Any]
    deadline: float | None


Handle = Callable[[Taken], Awaitable[Response]]
Take = Callable[[int], None]


class Reception:
    """Does for all routes what has nothing to do with what they ask."""

    def __init__(self, service: Service, config: ServerConfig, keys: Keys) -> None:
        self.service, self.config, self.keys = service, config, keys
        # Bytes of the bodies of all requests that have no answer yet.
        self._held = 0

    async def answer(
        self, request: Request, route: Api, handle: Handle, api_of: Callable[[dict[str, Any]], Api] | None = None
    ) -> Response:
        """Take a request in, and answer it; if it is refused, in the words of its API.

        Args:
            request: its body was not read yet.
            route: the API that is spoken on it, as far as its body does not tell another.
            handle: makes the answer; it is cancelled when the client hangs up.
            api_of: which API a body speaks.
        """
        request_id, api = new_id(), route
        try:
            self.keys.check(request.headers.get("authorization"))
            if self.service.draining:
                raise StoppingError
            deadline = self._deadline(request)
            with self._counted() as take:
                data = read_json(await self._body(request, deadline, take))
                api = api_of(data) if api_of else route
                work = handle(Taken(request_id, data, deadline))
                answered = await while_connected(request, work, self.service.ended)
                answered.headers[REQUEST_ID] = request_id
                return answered
        except RefusalError as error:
            refused, kind = refuse(api, error, request_id), error.kind
        except UnreachableError as error:  # where it should be is nothing for a client
            log.error("%s", error)
            refused, kind = refuse(api, UnavailableError(), request_id), UnavailableError.kind
        except UserError as error:
            refused, kind = refuse(api, InvalidError(str(error)), request_id), "invalid"
        except Exception:  # nobody is told what went wrong within, but the log
            log.exception("a request failed")
            refused, kind = refuse(api, BrokenError("the server failed on this request"), request_id), "internal"
        # What is our own is counted by its path, as what was answered is.
        counted = request.url.path.strip("/") if api == "own" else api
        self.service.refused(request_id, counted, refused.status, kind)
        return JSONResponse(refused.body, refused.status, {**refused.headers, REQUEST_ID: request_id})

    def _deadline(self, request: Request) -> float | None:
        given = request.headers.get(DEADLINE)
        milliseconds = math.inf if self.config.deadline_ms is None else self.config.deadline_ms
        if given is not None:
            try:
                wanted = float(given)
            except ValueError:
                wanted = math.nan
            if not 0 < wanted < math.inf:
                raise InvalidError(f"{DEADLINE}: must be a number of milliseconds above 0", DEADLINE)
            milliseconds = min(milliseconds, wanted)
        return time.monotonic() + milliseconds / 1000 if math.isfinite(milliseconds) else None

    @contextmanager
    def _counted(self) -> Iterator[Take]:
        """What counts bytes of a body before they are kept, until the request has its answer.

        It raises `OverloadedError` where all bodies together are too large: the queue sees a request only when its
        body was read.
        """
        taken, most = 0, self.config.max_bodies_mib * MIB

        def take(size: int) -> None:
            nonlocal taken
            if self._held + size > most:
                raise OverloadedError(RETRY)
            self._held += size
            taken += size

        try:
            yield take
        finally:
            self._held -= taken

    async def _body(self, request: Request, deadline: float | None, take: Take) -> bytearray:
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
            raise UnsupportedError
        limit = int(self.config.max_body_mib * MIB)
        too_large = TooLargeError(f"the body is larger than {self.config.max_body_mib:g} MiB: send less at once")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise too_large
        left = time_left(deadline)
        try:
            return await asyncio.wait_for(_read(request, limit, too_large, take), left)
        except asyncio.TimeoutError:
            raise SlowError from None


async def _read(request: Request, limit: int, too_large: TooLargeError, take: Take) -> bytearray:
    """The body, of which no more than `limit` bytes are ever held."""
    content = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise GoneError("the client hung up before its body was there")
        part = message.get("body", b"")
        if len(content) + len(part) > limit:
            raise too_large
        take(len(part))
        content += part
        if not message.get("more_body", False):
            return content


async def while_connected(request: Request, work: Awaitable[T], ended: asyncio.Event) -> T:
    """Wait for work, whose body was read; what is not done when nobody waits any more is cancelled.

    What has a deadline keeps it by itself.

    Raises:
        GoneError: the client hung up first.
        StoppingError: the server ended first.
    """
    task = asyncio.ensure_future(work)
    watch, end = asyncio.ensure_future(_hung_up(request)), asyncio.ensure_future(ended.wait())
    try:
        await asyncio.wait({task, watch, end}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise GoneError("the client hung up") if watch.done() else StoppingError
    finally:
        for one in (task, watch, end):
            one.cancel()
        await asyncio.gather(task, watch, end, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
