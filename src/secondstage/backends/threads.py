"""How many threads compute."""

from __future__ import annotations

import math
import os
from pathlib import Path

# What a container may use, in cgroup v2: "200000 100000" are two processors, "max 100000" is no limit.
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def available_threads(limit: Path = CPU_MAX) -> int:
    """The processors that this process may use: affinity, the container's share, and OMP_NUM_THREADS; at least 1.

    Libraries count the processors of the whole machine: in a container that has a share of them, their threads wait for
    each other.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    counts = [len(affinity(0)) if affinity else os.cpu_count() or 1]
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if told.isdecimal() and int(told):
        counts.append(int(told))
    try:
        quota, period = limit.read_text(encoding="ascii").split()
        counts.append(math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        pass
    return max(1, min(counts))


def set_torch_threads(threads: int | None) -> None:
    """Let torch compute with so many threads; none leaves it as it is."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
