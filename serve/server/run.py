"""Runs a server until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

import uvicorn

from secondstage.backends.record import ENGINES_FOLDER
from secondstage.backends.threads import set_torch_threads
from secondstage.compute import device
from secondstage.config import ServerConfig
from secondstage.errors import UserError
from secondstage.files import read_manifest
from secondstage.progress import say
from secondstage.reranker import Reranker

from ..opening import KIND
from ..pipeline import Pipeline
from .app import make_app
from .judgements import Judgements
from .keys import read_keys
from .observer import Observer
from .service import Service

BACKLOG = 2048
# After SIGTERM new requests are still refused with words, for so many seconds at least, or drain_seconds. So a load
# balancer has time to see that this server is not ready, and connections end with an answer.
GRACE = 2.0
# Seconds for the refusals of what could not be answered in time.
LAST_WORDS = 0.5


def serve(bundle: Path, config: ServerConfig) -> None:
    """Serve a bundle until SIGTERM or SIGINT; what was accepted by then is answered.

    Raises:
        UserError: the bundle or the file of keys cannot be opened, or the address is taken.
    """
    keys = read_keys(config.keys_file)
    listener = listen(config.host, config.port)
    with listener:
        if not keys and not is_loopback(config.host):
            print(
                f"secondstage: {config.host} can be reached by others, and no API key is asked for: give keys_file, "
                "or see to it that only who may can reach it",
                file=sys.stderr,
            )
        service = make_service(bundle, config)
        app = make_app(service, config, keys)
        settings = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=max(round(config.drain_seconds), 1),
        )
        server = Server(settings, service, f"{bundle} at {url_of(listener, config.host)}")
        server.run([listener])
    if server.force_exit:
        # Nothing else tells the signals then, and a thread that still computes would hold the process up.
        service.tell(service.signals.close)
        sys.stdout.flush()
        os._exit(0)


def make_service(bundle: Path, config: ServerConfig) -> Service:
    """Open a bundle for serving."""
    pipeline = Pipeline.load(bundle, config.backend)
    if pipeline.refused and pipeline.verdict:
        say(f"secondstage: the gate refused this bundle. {pipeline.verdict.sentence}")
    elif pipeline.falls_back:
        say("secondstage: nothing has proven this bundle, so serve.fallback answers in the first stage's order")
    if all(model.threads > 1 for model in pipeline.rerankers):
        # Torch encodes queries alone then. Its threads would spin for work between two queries, and take a fifth of the
        # processors from the engine.
        set_torch_threads(1)
    bare = pipeline.reranker.kind == Reranker.kind and not (bundle / ENGINES_FOLDER).is_dir()
    if bare and config.backend is None and device() == "cpu":
        say(f"torch computes; most processors are faster after: secondstage export {bundle} --to openvino-int8")
    pipeline.prepare()
    name = f"secondstage-{read_manifest(bundle, KIND)['fingerprint'][:12]}"
    observer = Observer.open(config, pipeline, bundle)
    observer.metrics.describe(name, pipeline.reranker.engine)
    keep = Judgements(Path(config.judgements).expanduser()).add if config.judgements else None
    return Service(pipeline, config, observer, name=name, keep=keep)


class Server(uvicorn.Server):
    """Drains before it stops listening, and ends with exit code 0.

    uvicorn alone would close its port at once: requests on their way would be lost without an answer.
    """

    def __init__(self, settings: uvicorn.Config, service: Service, subject: str) -> None:
        super().__init__(settings)
        self.service, self._subject = service, subject
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where it listens, once it does."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        print(f"secondstage: serving {self._subject}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM and SIGINT drain; the second SIGINT does not wait."""
        if self.service.draining and sig == signal.SIGINT and self._loop is not None:
            self._loop.call_soon_threadsafe(self._give_up)
        self.service.draining = True
        if self._loop is not None and self._draining is None:
            self._loop.call_soon_threadsafe(self._drain)
        elif self._loop is None:
            self.should_exit = True

    def _drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drained())

    async def _drained(self) -> None:
        start, most = time.monotonic(), self.service.config.drain_seconds
        try:
            await asyncio.wait_for(self.service.drain(), most)
        except asyncio.TimeoutError:
            print("secondstage: drain_seconds are over; what is left is refused", file=sys.stderr)
            self.service.ended.set()
            await asyncio.sleep(LAST_WORDS)
            self._give_up()
        else:
            await asyncio.sleep(max(0.0, start + min(GRACE, most) - time.monotonic()))
        self.should_exit = True

    def _give_up(self) -> None:
        """End without what has no answer yet; from Python 3.12 on, uvicorn waits for every open connection."""
        self.should_exit = self.force_exit = True
        for connection in list(self.server_state.connections):
            if transport := getattr(connection, "transport", None):
                transport.abort()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, whose connections send at once; `UserError` if it cannot."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise UserError(
            f"cannot listen at {host}, port {port} ({error.strerror or error}): choose another port, or port=0 for any"
        ) from None
    # Connections inherit it. asyncio sets it only where a socket names its protocol, which those of `create_server` do
    # not: then the body of an answer waits for the client to acknowledge its headers, which takes 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket, host: str) -> str:
    """Where it can be asked."""
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
