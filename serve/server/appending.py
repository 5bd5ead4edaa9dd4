"""A file that whole lines are appended to: after a full disk, or a kill, no line is half there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from secondstage.errors import UserError


class Appending:
    """An open file of lines. One process at a time; not for several threads at once."""

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
        try:
            written = self._file.write(line)
        except OSError:
            self._file.truncate(self.size)
            raise
        if written != len(line):
            self._file.truncate(self.size)
            raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes could be written")
        self.size += written

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
