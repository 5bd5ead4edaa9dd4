"""What teachers and generators cost: added up over processes and runs, and told once."""

from __future__ import annotations

from pathlib import Path

import pytest

from secondstage.files import read_json, write_json
from secondstage.mine.costs import COSTS, GENERATORS, keep_costs, take_costs


def test_costs_of_several_processes_add_up_and_are_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "1.json", {"t0": {"pairs": 5, "seconds": 0.5}, "gone": {"requests": 2}})
    for pairs in (2, 7):  # once when it shares, once when it makes the lists
        keep_costs(tmp_path, {"t0": {"pairs": pairs, "found": 1}})
    assert read_json(tmp_path / "0.json") == {"t0": {"pairs": 9, "found": 2}}
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    keep_costs(tmp_path, {"t0": {"pairs": 1}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.json", "1.json", "2.json"]
    assert take_costs(tmp_path) == {"t0": {"pairs": 15, "found": 2, "seconds": 0.5}, "gone": {"requests": 2}}
    assert take_costs(tmp_path) == {}


def test_a_folder_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("[1]")
    keep_costs(tmp_path, {"t0": {"pairs": 1}})
    assert take_costs(tmp_path) == {"t0": {"pairs": 1}}
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]


def test_who_asks_nobody_has_no_costs(tmp_path: Path) -> None:
    keep_costs(tmp_path / COSTS, {})
    assert not (tmp_path / COSTS).exists()


def test_teachers_and_generators_are_told_apart(tmp_path: Path) -> None:
    keep_costs(tmp_path / COSTS / GENERATORS, {"endpoint llm": {"cost": 0.5}})
    keep_costs(tmp_path / COSTS, {"endpoint": {"cost": 1.0}})
    assert take_costs(tmp_path / COSTS) == {"endpoint": {"cost": 1.0}}
    assert take_costs(tmp_path / COSTS / GENERATORS) == {"endpoint llm": {"cost": 0.5}}
