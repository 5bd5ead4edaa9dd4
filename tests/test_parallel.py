"""Work shared by processes: who does what, waiting, and files that are whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from secondstage.errors import UserError
from secondstage.parallel import Workers, _leave, all_files, ends, gather, own_file, together, wait, workers

from .children import launch


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert workers() == Workers(0, 1)
    assert workers().lead
    wait()
    value = object()
    assert gather(value) == [value]


def test_asking_imports_nothing_heavy() -> None:
    script = "import sys, secondstage.parallel as p; p.workers(); p.wait(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("shards", [0, 1, 5, 6])
def test_every_shard_has_one_owner(size: int, shards: int) -> None:
    team = [Workers(rank, size) for rank in range(size)]
    owners = [[worker.rank for worker in team if worker.owns(shard)] for shard in range(shards)]
    assert owners == [[shard % size] for shard in range(shards)]


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("x", "2"), ("0", "0"), ("-1", "2"), ("0", "")])
def test_an_odd_environment_is_refused(monkeypatch: pytest.MonkeyPatch, rank: str, size: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(UserError, match="RANK below WORLD_SIZE"):
        workers()


def test_processes_without_a_place_to_meet_are_told_how_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")  # set on the way: put back afterwards
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for meet in (wait, lambda: gather(1)):
        with pytest.raises(UserError, match=r"tell of 2 processes.*MASTER_ADDR.*unset both"):
            meet()


WAITING = """
import sys
from pathlib import Path
from secondstage.parallel import wait, workers
folder, team = Path(sys.argv[1]), workers()
for shard in filter(team.owns, range(5)):
    (folder / str(shard)).touch()
wait()
print(sorted(path.name for path in folder.iterdir()))
"""

FAILING = """
from secondstage.errors import UserError
from secondstage.parallel import wait, workers
wait()
if workers().rank == 1:
    raise SystemExit(7)
try:
    wait()
except UserError as error:
    print("told:", error)
    raise SystemExit(3)
"""

# The first to come waits for three seconds until all are there; after that the second may take longer. Where both live,
# joining alone may take longer as well: a machine may be busy.
SLOW = """
import sys, time
from datetime import timedelta
import torch.distributed as distributed
from torch.distributed.distributed_c10d import _set_pg_timeout
from secondstage import parallel
from secondstage.errors import UserError
parallel.JOINING = timedelta(seconds=3)
rank = parallel.workers().rank
join = distributed.init_process_group
def join_slowly(backends, timeout):
    join(backends, timeout=timedelta(seconds=60))
    _set_pg_timeout(timeout)
if sys.argv[1] == "lives":
    distributed.init_process_group = join_slowly
if sys.argv[1] == "dies" and rank == 1:
    raise SystemExit(7)
try:
    parallel.wait()
except UserError as error:
    print("told:", error)
    raise SystemExit(3)
if rank == 1:
    time.sleep(5)
parallel.wait()
"""


@pytest.mark.slow
def test_all_wait_for_all(tmp_path: Path) -> None:
    for finished in launch(WAITING, 3, str(tmp_path)):
        assert finished.returncode == 0, finished.stderr
        assert finished.stdout.strip() == "['0', '1', '2', '3', '4']"


GATHERING = """
from secondstage.parallel import gather, workers
print(gather({"rank": workers().rank, "text": "x" * workers().rank}), gather(None))
"""


@pytest.mark.slow
def test_each_gets_what_all_give_in_the_order_of_ranks() -> None:
    expected = str([{"rank": rank, "text": "x" * rank} for rank in range(3)]) + " [None, None, None]"
    assert [finished.stdout.strip() for finished in launch(GATHERING, 3)] == [expected] * 3


@pytest.mark.slow
def test_a_process_that_dies_fails_the_others() -> None:
    first, second = launch(FAILING, 2)
    assert second.returncode == 7
    assert first.returncode == 3, first.stderr
    assert "another process of this run has failed" in first.stdout


@pytest.mark.slow
def test_a_process_that_never_joins_is_not_waited_for_long_but_a_slow_one_is() -> None:
    first, second = launch(SLOW, 2, "dies")
    assert second.returncode == 7
    assert first.returncode == 3, first.stderr
    assert "another process of this run has failed" in first.stdout
    assert [finished.returncode for finished in launch(SLOW, 2, "lives")] == [0, 0]


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


def test_memory_that_runs_out_is_nobody_elses_failure() -> None:
    for error in (RuntimeError("DefaultCPUAllocator: can't allocate memory"), torch.OutOfMemoryError("CUDA")):
        with pytest.raises(type(error)) as raised, together():
            raise error
        assert raised.value is error
    with (
        pytest.raises(UserError, match="another process of this run has failed, see its output: closed by peer"),
        together(),
    ):
        raise RuntimeError("closed by peer")


@pytest.mark.parametrize(("code", "accelerators", "at_once"), [(2, True, [2]), (0, True, []), (2, False, [])])
def test_who_failed_does_not_wait_for_the_others_to_close_what_accelerators_share(
    code: int, accelerators: bool, at_once: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: accelerators)
    monkeypatch.setattr("secondstage.parallel.os._exit", ended.append)
    monkeypatch.setattr("secondstage.parallel._code", 0)
    ends(code)
    _leave()
    assert ended == at_once
