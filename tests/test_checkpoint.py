"""Checkpoints: whole or not at all, the last few, and nothing else."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from secondstage.train.checkpoint import RECORD, Checkpoints


def written(folder: Path, *steps: int, keep: int = 1) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep)
    for step in steps:
        checkpoints.write(step, {"step": step}, {"weights": torch.full((3,), float(step))})
    return checkpoints


@pytest.mark.parametrize(("keep", "left"), [(1, [12]), (2, [7, 12]), (5, [3, 7, 12])])
def test_the_last_few_are_kept(tmp_path: Path, keep: int, left: list[int]) -> None:
    checkpoints = written(tmp_path, 3, 7, 12, keep=keep)
    assert sorted(checkpoints.steps()) == left
    assert checkpoints.latest() == 12
    assert checkpoints.record(12) == {"step": 12}
    assert checkpoints.tensors(12)["weights"].tolist() == [12, 12, 12]


def test_without_any_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", 1).latest() is None


def test_without_room_those_that_are_there_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = written(tmp_path, 3)

    def full(*_: Any) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="cannot write"):
        checkpoints.write(4, {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]
    assert checkpoints.latest() == 3


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which file was flushed")
def test_a_checkpoint_is_on_the_disk_before_it_gets_its_name_and_before_older_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, flushed = written(tmp_path, 3), list[str]()
    fsync = os.fsync

    def noted(handle: int) -> None:
        fsync(handle)
        flushed.append(Path(f"/proc/self/fd/{handle}").readlink().name.partition(".tmp-")[0])
        if flushed[-1] == tmp_path.name:  # the new name
            assert sorted(checkpoints.steps()) == [3, 7]

    monkeypatch.setattr(os, "fsync", noted)
    checkpoints.write(7, {"step": 7}, {"weights": torch.zeros(3)})
    assert flushed == [*sorted(["state.json", "state.pt"], key=flushed.index), ".step-00000007", tmp_path.name]
    assert sorted(checkpoints.steps()) == [7]


def test_several_writers_fill_one_folder_that_is_there_when_all_is(tmp_path: Path) -> None:
    checkpoints = written(tmp_path, 3)
    with checkpoints.making(4, {"step": 4}) as folder:
        for name in ("one", "other"):
            (folder / name).touch()
        assert list(checkpoints.steps()) == [3]
    assert list(checkpoints.steps()) == [4]
    assert sorted(path.name for path in checkpoints.place(4).iterdir()) == ["one", "other", RECORD]


def test_what_a_kill_left_is_cleared_away(tmp_path: Path) -> None:
    checkpoints = written(tmp_path, 3)
    shutil.copytree(checkpoints.place(3), tmp_path / ".step-00000004.tmp-abc")  # killed in writing
    checkpoints.place(3).rename(tmp_path / ".step-00000003.old")  # killed between two renames
    (tmp_path / "step-00000005").mkdir()  # not ours: no record
    assert checkpoints.latest() == 3
    assert (checkpoints.place(3) / RECORD).is_file()
    assert not list(tmp_path.glob(".step*"))
