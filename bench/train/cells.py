"""Finished measurements, kept so that none is made twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from secondstage.progress import say

Cell = dict[str, Any]


class Cells:
    """A file with a line of JSON for each finished measurement: its key, and what was found.

    A kill while writing tears the last line at most: it is passed over, and measured again.
    """

    def __init__(self, path: Path) -> None:
        """Read what is there; the file need not exist."""
        self.path = path
        self._found: dict[str, Cell] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                cell: Cell = json.loads(line)
            except ValueError:
                continue
            self._found[_name(cell["key"])] = cell

    def get(self, key: Mapping[str, Any], make: Callable[[], Cell]) -> Cell:
        """What was found under this key; `make` measures it if nothing was.

        Args:
            key: JSON: all that decides the measurement.
            make: returns JSON.
        """
        name = _name(key)
        if name not in self._found:
            say(f"measuring {name}")
            cell = {"key": dict(key), **make()}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+", encoding="utf-8") as file:
                file.seek(0)
                torn = file.read()[-1:] not in ("", "\n")
                file.write("\n" * torn + json.dumps(cell) + "\n")
            self._found[name] = cell
        return self._found[name]


def _name(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)
