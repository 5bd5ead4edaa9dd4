"""The file of finished cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from secondstage.bakeoff.cells import Cell, Cells
from secondstage.errors import UserError

ONE = Cell("k1", "a", 13, {"pipeline": {"q": 0.25, "r": 0.75}}, 5, 640, 1.5, 0.5, 20, 0.25, "f")
OTHER = ONE._replace(key="k2", seed=14)


def test_cells_are_read_as_they_were_added(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cells.jsonl")
    assert cells.get("k1") is None
    cells.add(ONE)
    cells.add(OTHER)
    cells.add(ONE._replace(steps=6))
    again = Cells(tmp_path / "cells.jsonl")
    assert (again.get("k1"), again.get("k2")) == (ONE._replace(steps=6), OTHER)
    assert len((tmp_path / "cells.jsonl").read_text().splitlines()) == 2
    assert ONE.mean("pipeline") == (0.25 + 0.75) / 2


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = Cells(tmp_path / "cells.jsonl")
    cells.add(ONE)

    def full(path: Path, text: str, encoding: str) -> None:
        with path.open("w") as file:
            file.write(text[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            cells.add(OTHER)
    assert cells.get("k2") is None
    assert Cells(tmp_path / "cells.jsonl").get("k1") == ONE
    assert [path.name for path in tmp_path.iterdir()] == ["cells.jsonl"]


@pytest.mark.parametrize("line", ['{"key": "k"}', "nonsense", "[1]"])
def test_a_file_of_something_else_is_told_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "cells.jsonl"
    Cells(path).add(ONE)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match="line 2: not a cell"):
        Cells(path)
