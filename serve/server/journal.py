"""The journal: one JSON line for each request, written by a thread of its own, without texts unless told otherwise.

In place of a query it holds a digest under a key that is drawn for each file and kept nowhere: it tells that a query
was asked again, and not what it was. A line of kind `opened` begins a file, and follows in it where a new key is used.
"""

from __future__ import annotations

import json
import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from hashlib import blake2b
from pathlib import Path
from typing import Any

from secondstage.duplicates import question_key
from secondstage.progress import say

from .appending import Appending, open_appending

SCHEMA = 1
MIB = 1 << 20
# Lines that wait for the disk; more are dropped.
HELD = 10_000
# Files beside the newest.
KEPT = 5
# What a stopping server waits for a disk that hangs.
DRAIN_SECONDS = 10.0

Count = Callable[[str], None]


def silent(outcome: str) -> None:
    """Count nothing."""


class Journal:
    """Takes records and never fails a request: what cannot be written is counted, said once, and left out."""

    def __init__(
        self,
        path: Path,
        *,
        queries: bool = False,
        mib: float = 64,
        kept: int = KEPT,
        count: Count = silent,
    ) -> None:
        """Open it, or go on with it, and start its thread.

        Args:
            path: the newest file; older ones have a number behind its name, the highest the oldest.
            queries: keep the texts of queries.
            mib: of one file at most, in MiB.
            kept: older files.
            count: is told `written`, `dropped` or `failed` for each line, by any thread.

        Raises:
            UserError: the file cannot be written to.
        """
        self.path, self._queries, self._limit, self._kept, self._count = path, queries, mib * MIB, kept, count
        self._file: Appending | None = open_appending(path, "journal")
        self._key = b""
        self._said = False
        self._waiting: queue.Queue[Mapping[str, Any] | None] = queue.Queue(HELD)
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def write(self, record: Mapping[str, Any]) -> None:
        """Hand over a record, which must not be changed any more; its `query` is the text. Never waits."""
        try:
            self._waiting.put_nowait({"time": now(), **record})
        except queue.Full:
            self._count("dropped")

    def close(self) -> None:
        """Write what waits, and close the file; gives up on a disk that hangs."""
        try:
            self._waiting.put(None, timeout=DRAIN_SECONDS)
        except queue.Full:
            return
        self._thread.join(DRAIN_SECONDS)

    def _work(self) -> None:
        while (record := self._waiting.get()) is not None:
            try:
                self._append(record)
            except Exception as error:  # a record that cannot be written must not end the thread
                self._fail(error)
            else:
                self._count("written")
        if self._file:
            self._file.close()

    def _append(self, record: Mapping[str, Any]) -> None:
        if self._file and self._file.size >= self._limit:
            self._rotate()
        if not self._file or not self._key:
            self._open()
        if self._file:
            self._file.append(self._line(record))

    def _open(self) -> None:
        """Begin a file, or go on with one, under a new key."""
        self._file = self._file or Appending(self.path)
        self._file.append(encoded({"time": now(), "kind": "opened", "journal": SCHEMA, "queries": self._queries}))
        self._key = secrets.token_bytes(16)

    def _line(self, record: Mapping[str, Any]) -> bytes:
        if "query" in record and not self._queries:
            record = {**record, "query": query_digest(record["query"], self._key)}
        return encoded(record)

    def _rotate(self) -> None:
        """Give every file the next number; the oldest is replaced."""
        if self._file:
            self._file.close()
        self._file, self._key = None, b""
        for number in range(self._kept - 1, 0, -1):
            if numbered(self.path, number).exists():
                numbered(self.path, number).replace(numbered(self.path, number + 1))
        if self._kept:
            self.path.replace(numbered(self.path, 1))
        else:
            self.path.unlink()

    def _fail(self, error: Exception) -> None:
        self._count("failed")
        if not self._said:
            say(f"the journal {self.path} cannot be written ({error}): lines are lost, and counted in /metrics")
            self._said = True


def numbered(path: Path, number: int) -> Path:
    """The name of an older file."""
    return path.with_name(f"{path.name}.{number}")


def now() -> str:
    """The time in UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def encoded(record: Mapping[str, Any]) -> bytes:
    """One line; ASCII, as half a surrogate pair could not be encoded otherwise."""
    return json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def query_digest(query: str, key: bytes) -> str:
    """16 hex digits, the same for queries that ask the same."""
    return blake2b(question_key(query).encode("utf-8", "surrogatepass"), key=key, digest_size=8).hexdigest()
