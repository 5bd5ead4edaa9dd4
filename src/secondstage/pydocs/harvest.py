"""The harvest's outer half: runs `walk` in a process per library, so that no import can disturb the caller."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .libraries import Library
from .text import Record

WORKERS = 2
# Long, because a library that is left out for slowness makes another collection.
TIMEOUT = 900.0

# The package is found behind everything else, so that it shadows nothing; `_exit` skips what libraries run at exit.
_PROGRAM = (
    "import os, sys; sys.path.append(sys.argv[1]); from secondstage.pydocs.walk import main; "
    "main(*sys.argv[2:]); os._exit(0)"
)
_DROPPED = ("PYTHONOPTIMIZE", "PYTHONINSPECT", "PYTHONSTARTUP", "PYTHONVERBOSE", "PYTHONPROFILEIMPORTTIME")
_FIXED = {
    "PYTHONHASHSEED": "0",
    "PYTHONWARNINGS": "ignore",
    "PYTHONIOENCODING": "utf-8",
    "MPLBACKEND": "Agg",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "WANDB_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "80",
    "TZ": "UTC",
}


class Harvest(NamedTuple):
    """What was found, and in words what was not."""

    records: list[Record]
    left_out: list[str]


def harvest(libraries: Sequence[Library], *, timeout: float = TIMEOUT) -> Harvest:
    """Read the documentation of `libraries`; what cannot be imported, crashes or hangs is left out and said.

    Args:
        libraries: what to read; the records come in this order.
        timeout: seconds that one library may take.
    """
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(WORKERS) as pool:
        parts = list(pool.map(partial(_harvest_one, folder=Path(folder), timeout=timeout), libraries))
    return Harvest(
        [record for part in parts for record in part.records], [line for part in parts for line in part.left_out]
    )


def _harvest_one(library: Library, folder: Path, timeout: float) -> Harvest:
    """One library in a process of its own, in an empty working directory that is also its home."""
    home = folder / library.name
    home.mkdir()
    out, errors = folder / f"{library.name}.jsonl", folder / f"{library.name}.err"
    root = Path(__file__).absolute().parents[2]
    command = [sys.executable, "-c", _PROGRAM, str(root), str(out), library.name, *library.modules]
    with errors.open("wb") as stderr:
        try:
            code: int | str = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=home,
                env=_environment(home),
                timeout=timeout,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = f"none within {timeout:g} s"
    if code != 0 or not out.exists():
        last = errors.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        return Harvest([], [f"{library.name}: its process failed (exit status {code}{': ' + last if last else ''})"])
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    failed = [f"{row['failed']} ({row['error']})" for row in rows if "failed" in row]
    return Harvest([Record(**row) for row in rows if "name" in row], failed)


def _environment(home: Path) -> dict[str, str]:
    """The caller's environment without what could show in a docstring, or let an import reach out."""
    environment = {key: value for key, value in os.environ.items() if key not in _DROPPED}
    search = [str(Path(path).absolute()) for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {
        **environment,
        **_FIXED,
        "PYTHONPATH": os.pathsep.join(search),
        "PYTHONUSERBASE": site.getuserbase(),
        "HOME": str(home),
        "HF_HOME": str(home),
    }
