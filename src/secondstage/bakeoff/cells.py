"""Cells: what one recipe came to with one seed; finished ones are lines of a file, and never made again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from ..files import writing_whole
from ..measures import Values, mean


class Cell(NamedTuple):
    """One recipe with one seed.

    Attributes:
        key: a digest of all that it was made from.
        recipe: the name of the recipe.
        seed: of mining and training.
        values: the measure by query id, by system: the reranker alone, and fused with the first stage.
        steps: of training.
        tokens: of training, without padding.
        seconds: of training.
        prepared: seconds of what came before it: mining and the like, whoever else used it.
        pairs: of the lists that decide, which were scored.
        scoring: seconds that this took.
        training: the fingerprint of the stage that made its reranker.
    """

    key: str
    recipe: str
    seed: int
    values: Mapping[str, Values]
    steps: int
    tokens: int
    seconds: float
    prepared: float
    pairs: int
    scoring: float
    training: str

    def mean(self, system: str) -> float:
        """Over the queries."""
        return mean(dict(self.values[system]))


class Cells:
    """The finished cells of a file, by key. Cells of recipes that are no longer asked for stay in it."""

    def __init__(self, path: Path) -> None:
        """Read what is there; `UserError` if it is no file of cells."""
        self.path = path
        self._found: dict[str, Cell] = {}
        if not path.is_file():
            return
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                cell = Cell(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise UserError(
                    f"{path}, line {number}: not a cell of this version of secondstage ({error}): mend it, or move the "
                    "file away to make all cells again"
                ) from None
            self._found[cell.key] = cell

    def get(self, key: str) -> Cell | None:
        """A finished cell."""
        return self._found.get(key)

    def add(self, cell: Cell) -> None:
        """Keep a cell. The file is written whole, so that a kill leaves no half of a line."""
        found = {**self._found, cell.key: cell}
        with writing_whole(self.path) as temporary:
            lines = (json.dumps(each._asdict(), ensure_ascii=False) + "\n" for each in found.values())
            temporary.write_text("".join(lines), encoding="utf-8")
        self._found = found
