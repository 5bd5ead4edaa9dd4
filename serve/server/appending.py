"""A file that whole lines are appended to: after a full disk, or a kill, no line is half there."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from secondstage.errors import UserError

if sys.platform != "win32":
    import fcntl


class Appending:
    """An open file of lines, which several processes may append to; not for several threads at once."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it.

        A line that a kill cut short is ended, so that no other is glued to it: readers pass over it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b", buffering=0)
        self.size = self._file.seek(0, os.SEEK_END)
        if self.size:
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self.append(b"\n")

    def append(self, line: bytes) -> None:
        """Write a line, whole or not at all.

        Raises:
            OSError: it could not be written.
        """
        with self._held():
            before = os.fstat(self._file.fileno()).st_size
            try:
                written = self._file.write(line)
            except OSError:
                self._file.truncate(before)
                raise
            if written != len(line):
                self._file.truncate(before)
                raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes could be written")
            self.size = before + written

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """No other process appends meanwhile: its line would be cut off with a half one of ours.

        Where a system or a file system has no locks, a process should have the file for itself.
        """
        if sys.platform == "win32":
            yield
            return
        with contextlib.suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def sync(self) -> None:
        """Return when the disk has it all."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close it."""
        self._file.close()


def open_appending(path: Path, key: str) -> Appending:
    """Open a file that a setting names; `UserError` names the setting if that cannot be done."""
    try:
        return Appending(path)
    except OSError as error:
        raise UserError(f"{key}={path} cannot be written to ({error.strerror}): give a file that can") from error
