"""What teachers and generators cost, kept below a run's output until a manifest tells it: so a run may stop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secondstage.files import read_json, write_json
from secondstage.parallel import workers

from .teaching import merge_reports

# Below a run's output: of teachers, and in a folder of its own of generators, a file for each process.
COSTS = "costs"
GENERATORS = "generators"


def keep_costs(folder: Path, reports: Mapping[str, Any]) -> None:
    """Add what this process paid, by who was asked, to what no manifest tells yet."""
    if reports:
        path = folder / f"{workers().rank}.json"
        write_json(path, merge_reports(read_json(path) if path.is_file() else {}, reports))


def take_costs(folder: Path) -> dict[str, Any]:
    """What all processes kept, added up; it is not told again."""
    total: dict[str, Any] = {}
    for path in sorted(path for path in folder.glob("*.json") if path.stem.isdecimal()):
        total = merge_reports(total, read_json(path))
        path.unlink()
    return total
