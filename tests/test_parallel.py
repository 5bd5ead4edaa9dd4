"""Work shared by processes: who does what, waiting, and files that are whole."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from secondstage.errors import UserError
from secondstage.parallel import Workers, all_files, own_file, share, wait, workers, write_whole


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert workers() == Workers(0, 1)
    assert workers().lead
    wait()
    done: list[int] = []
    share(3, done.append)
    assert done == [0, 1, 2]


def test_asking_imports_nothing_heavy() -> None:
    script = "import sys, secondstage.parallel as p; p.workers(); p.wait(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("shards", [0, 1, 5, 6])
def test_every_shard_has_one_owner(size: int, shards: int) -> None:
    team = [Workers(rank, size) for rank in range(size)]
    assert sorted(shard for worker in team for shard in worker.own(shards)) == list(range(shards))
    for worker in team:
        assert [shard for shard in range(shards) if worker.owns(shard)] == list(worker.own(shards))


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("x", "2"), ("0", "0"), ("-1", "2"), ("0", "")])
def test_an_odd_environment_is_refused(monkeypatch: pytest.MonkeyPatch, rank: str, size: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(UserError, match="RANK below WORLD_SIZE"):
        workers()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "below" / "shard.npy"

    def half(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, half)
    assert list(path.parent.iterdir()) == []

    def write(temporary: Path) -> None:
        temporary.write_text("whole")

    write_whole(path, write)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, half)
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def launch(script: str, size: int, *arguments: str) -> list[subprocess.CompletedProcess[str]]:
    """Run a script in `size` processes that know of each other, as a launcher would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    running = []
    for rank in range(size):
        environment = {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, "-c", script, *arguments]
        pipe = subprocess.PIPE
        running.append(
            subprocess.Popen(command, env={**os.environ, **environment}, stdout=pipe, stderr=pipe, text=True)
        )
    finished = []
    for process in running:
        out, err = process.communicate(timeout=300)
        finished.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return finished


WAITING = """
import sys
from pathlib import Path
from secondstage.parallel import share, write_whole
folder = Path(sys.argv[1])
share(5, lambda shard: write_whole(folder / str(shard), lambda path: path.write_text(str(shard)) and None))
print(sorted(path.name for path in folder.iterdir()))
"""

FAILING = """
from secondstage.errors import UserError
from secondstage.parallel import share, wait, workers
wait()
if workers().rank == 1:
    raise SystemExit(7)
try:
    wait()
except UserError as error:
    print("told:", error)
    raise SystemExit(3)
"""


@pytest.mark.slow
def test_all_wait_for_all(tmp_path: Path) -> None:
    for finished in launch(WAITING, 3, str(tmp_path)):
        assert finished.returncode == 0, finished.stderr
        assert finished.stdout.strip() == "['0', '1', '2', '3', '4']"


@pytest.mark.slow
def test_a_process_that_dies_fails_the_others() -> None:
    first, second = launch(FAILING, 2)
    assert second.returncode == 7
    assert first.returncode == 3, first.stderr
    assert "another process of this run has failed" in first.stdout


def test_each_process_appends_to_a_file_of_its_own_and_reads_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "kept[1].scores"
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in ("0", "1", "2"):
        monkeypatch.setenv("RANK", rank)
        own_file(path).write_text(rank)
    others = [path.with_name("kept[1].scores.1"), path.with_name("kept[1].scores.2")]
    assert all_files(path) == [path, *others]
    assert [file.read_text() for file in all_files(path)] == ["0", "1", "2"]
    assert all_files(tmp_path / "other") == [tmp_path / "other"]
