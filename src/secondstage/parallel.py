"""Several processes that share one piece of work through files.

Work is cut into numbered shards whose results are files. Each process computes its own shards, all wait for each other,
and then any of them reads every file. What a shard holds never depends on who computed it: any number of processes
gives exactly the result of one. `accelerate launch` and `torchrun` start such processes; they share one file system.
"""

from __future__ import annotations

import atexit
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .errors import UserError

T = TypeVar("T")

# All start together: one that has not come after so long died before it could be heard of.
JOINING = timedelta(minutes=10)
# Later a slow process is waited for; a dead one ends the wait at once, by its closed connection.
PATIENCE = timedelta(days=30)


class Workers(NamedTuple):
    """Which process this is, and how many there are."""

    rank: int = 0
    size: int = 1

    @property
    def lead(self) -> bool:
        """Whether this is the one that goes on alone."""
        return self.rank == 0

    def owns(self, shard: int) -> bool:
        """Whether this process computes that shard."""
        return shard % self.size == self.rank


ALONE = Workers()


def workers() -> Workers:
    """As the launcher says, in RANK and WORLD_SIZE; alone without one. Imports nothing heavy.

    Raises:
        UserError: the two are no whole numbers that fit each other.
    """
    rank, count = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and count.isdecimal() and int(rank) < int(count)):
        raise UserError(
            f"RANK={rank!r} and WORLD_SIZE={count!r} in the environment: want whole numbers, RANK below WORLD_SIZE; "
            "unset both for one process, or start with accelerate launch or torchrun"
        )
    return Workers(int(rank), int(count))


def wait() -> None:
    """Return when every process is here; at once if there is one.

    Raises:
        UserError: another process ended before it came here, or never joined.
    """
    if workers().size == 1:
        return
    import torch.distributed as distributed

    with together():
        distributed.barrier(_group())


def gather(value: T) -> list[T]:
    """What every process gives, in the order of their ranks, for each of them. Values are pickled.

    Raises:
        UserError: another process ended before it came here, or never joined.
    """
    if (size := workers().size) == 1:
        return [value]
    import torch.distributed as distributed

    found: list[Any] = [None] * size
    with together():
        distributed.all_gather_object(found, value, _group())
    return found


@contextmanager
def together() -> Iterator[None]:
    """What all processes do at the same time, such as a sum over them.

    Memory that runs out is told as such: it is this process's own, and no other has failed.

    Raises:
        UserError: another process ended before it came here, or never joined.
    """
    try:
        yield
    except RuntimeError as error:
        from .compute import ran_out

        if ran_out(error):
            raise
        raise UserError(f"another process of this run has failed, see its output: {error}") from error


def shares(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Divide pieces of work among `count` workers: the largest first, each to whoever has least.

    Longest-processing-time-first (Graham 1969): no worker has more than 4/3 of the least possible maximum.

    Args:
        sizes: of the pieces.
        count: of workers.

    Returns:
        The numbers of each worker's pieces, in rising order: every piece once.
    """
    parts: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        least = loads.index(min(loads))
        parts[least].append(i)
        loads[least] += sizes[i]
    return [sorted(part) for part in parts]


def own_file(path: Path) -> Path:
    """The file that this process alone appends to: `path` itself for the lead, one beside it for each of the others."""
    team = workers()
    return path if team.lead else path.with_name(f"{path.name}.{team.rank}")


def all_files(path: Path) -> list[Path]:
    """`path`, which may not exist, and what other processes, of this run or an earlier one, appended beside it."""
    return [path, *sorted(path.parent.glob(f"{glob.escape(path.name)}.[1-9]*"))]


_groups: list[Any] = []
_code = 0


def _group() -> Any:
    """The processes, joined on first use over gloo, which needs no accelerator. Accelerators talk over their own."""
    import torch
    import torch.distributed as distributed

    if not _groups:
        # Under FSDP transformers would load models in the lead alone, also those that each process asks on its own.
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        if not distributed.is_initialized():
            backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            try:
                distributed.init_process_group(backends, timeout=JOINING)
            except ValueError as error:
                # A cluster may export the two alone.
                raise UserError(
                    f"RANK and WORLD_SIZE in the environment tell of {workers().size} processes, which cannot find "
                    f"each other: {error}; unset both for one process, or start with accelerate launch or torchrun"
                ) from error
        _groups.append(distributed.new_group(backend="gloo", timeout=PATIENCE))
        atexit.register(_leave)
    return _groups[0]


def ends(code: int) -> None:
    """Tell with which code this process will end: one that failed does not take leave of the others, see `_leave`."""
    global _code
    _code = code


def _leave() -> None:
    """Close the connections: threads of gloo that are left to the interpreter's end abort the process now and then.

    NCCL's are closed by all processes at once: one that failed would wait for the others, which wait for it.
    """
    import torch
    import torch.distributed as distributed

    _groups.clear()
    if _code and torch.cuda.is_available():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_code)
    if distributed.is_initialized():
        distributed.destroy_process_group()
