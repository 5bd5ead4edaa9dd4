"""A real server process: started as a user starts it, stopped by SIGTERM, its memory read from outside."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import httpx

from .connection import HOST

# Seconds that loading a bundle and choosing its engine may take.
START = 300.0
# Seconds that a drain may take.
STOP = 120.0


class Served:
    """A server on a free port, in a context: it is ready when the context is entered.

    Attributes:
        port: on the loopback interface; the same after a restart.
        log: the file with what it printed.
    """

    def __init__(
        self, bundle: Path, settings: Sequence[str], log: Path, *, command: Sequence[str] = ("secondstage", "serve")
    ) -> None:
        """Start nothing yet.

        Args:
            bundle: the folder.
            settings: `key=value`.
            log: gets what the process prints.
            command: a module, and what stands before the bundle.
        """
        self.bundle, self.settings, self.log, self.command = bundle, tuple(settings), log, tuple(command)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it is ready.

        Raises:
            RuntimeError: it ended instead, or it takes too long.
        """
        command = [sys.executable, "-m", *self.command, str(self.bundle), f"port={self.port}", *self.settings]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + START
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"{' '.join(command)} is not ready; {self.log}:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> int:
        """SIGTERM, and wait for its end: it answers first what it accepted. Returns the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP)

    def kill(self) -> None:
        """End it, whatever it does."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def memory(self) -> int:
        """Bytes of physical memory that it holds (Linux); 0 if it has ended."""
        assert self._process is not None
        try:
            return resident(Path(f"/proc/{self._process.pid}/status").read_text())
        except FileNotFoundError:
            return 0

    def __enter__(self) -> Served:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        try:
            self.stop()
        finally:
            self.kill()

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ready", timeout=2.0).status_code == 200
        except httpx.TransportError:
            return False


def resident(status: str) -> int:
    """Bytes, from what Linux tells in /proc/PID/status; 0 of a process that has ended."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
