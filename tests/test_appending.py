"""Whole lines or none."""

from __future__ import annotations

import errno
import fcntl
import threading
from pathlib import Path
from typing import Any

import pytest

from secondstage.errors import UserError
from secondstage.serve.server.appending import Appending, open_appending


class Full:
    """A file on a disk that has room for a few bytes more."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, line: bytes) -> int:
        if not self.room:
            raise OSError(28, "No space left on device")
        taken, self.room = line[: self.room], max(0, self.room - len(line))
        return int(self.file.write(taken))

    def truncate(self, size: int) -> None:
        self.file.truncate(size)

    def fileno(self) -> int:
        return int(self.file.fileno())


def test_lines_are_added(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lines"
    for line in (b"one\n", b"two\n"):
        file = Appending(path)
        file.append(line)
        file.sync()
        assert file.size == path.stat().st_size
        file.close()
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_line_that_a_kill_cut_short_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'{"a": 1}\n{"b"')
    file = Appending(path)
    file.append(b'{"c": 3}\n')
    file.close()
    assert path.read_bytes() == b'{"a": 1}\n{"b"\n{"c": 3}\n'


@pytest.mark.parametrize("room", [0, 3])
def test_on_a_full_disk_nothing_of_a_line_is_left(tmp_path: Path, room: int) -> None:
    path = tmp_path / "lines"
    file: Any = Appending(path)
    file.append(b"whole\n")
    real = file._file
    file._file = Full(real, room)
    with pytest.raises(OSError, match=r"No space|only 3 of 5"):
        file.append(b"part\n")
    assert path.read_bytes() == b"whole\n"
    file._file = real
    file.append(b"again\n")
    assert path.read_bytes() == b"whole\nagain\n"
    assert file.size == 12
    file.close()


@pytest.mark.parametrize("room", [0, 3])
def test_a_full_disk_takes_no_line_of_another_process(tmp_path: Path, room: int) -> None:
    path = tmp_path / "lines"
    one: Any = Appending(path)
    other = Appending(path)
    one.append(b"own\n")
    other.append(b"other\n")
    one._file = Full(one._file, room)
    with pytest.raises(OSError, match=r"No space|only 3 of 5"):
        one.append(b"part\n")
    other.append(b"again\n")
    assert path.read_bytes() == b"own\nother\nagain\n"
    one._file.file.close()
    other.close()


def test_a_line_waits_for_that_of_another_process(tmp_path: Path) -> None:
    file, done = Appending(tmp_path / "lines"), threading.Event()

    def append() -> None:
        file.append(b"own\n")
        done.set()

    with (tmp_path / "lines").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=append)
        thread.start()
        assert not done.wait(0.2)
    thread.join()
    file.close()
    assert (tmp_path / "lines").read_bytes() == b"own\n"


def test_without_locks_a_line_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems of a network have none."""

    def none(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    file = Appending(tmp_path / "lines")
    file.append(b"own\n")
    file.close()
    assert (tmp_path / "lines").read_bytes() == b"own\n"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=rf"journal={path} cannot be written to \("):
            open_appending(path, "journal")
