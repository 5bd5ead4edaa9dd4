"""Budgets, in closed form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.train.budget import Epochs, Minutes, Replay, Steps, make_budget, stopwatch


def test_steps_and_epochs_are_shares() -> None:
    assert [Steps(4).progress(step, 99) for step in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1.25]
    assert [Epochs(2, 50).progress(99, lists) for lists in (0, 25, 50, 100, 110)] == [0, 0.25, 0.5, 1, 1.1]
    assert Epochs(0.5, 50).progress(0, 25) == 1


@pytest.mark.parametrize(("used", "after"), [(0.0, (0, 0.1, 2)), (15.0, (0.5, 0.6, 2.5))])
def test_minutes_are_what_a_stopwatch_tells(
    monkeypatch: pytest.MonkeyPatch, used: float, after: tuple[float, ...]
) -> None:
    now = 1000.0
    monkeypatch.setattr("secondstage.train.budget.time.monotonic", lambda: now)
    minutes = Minutes(0.5, stopwatch(used))
    for passed, progress in zip((0.0, 3.0, 60.0), after, strict=True):
        now = 1000.0 + passed
        assert minutes.progress(7, 7) == pytest.approx(progress)


RECORDED = [0.0, 0.125, 0.3, 0.99]


def test_a_replay_gives_what_was_recorded_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text("".join(json.dumps({"step": i, "progress": p, "loss": 1}) + "\n" for i, p in enumerate(RECORDED)))
    replay = Replay.read(path)
    assert [replay.progress(step, 0) for step in range(6)] == [*RECORDED, 1.0, 1.0]


def test_a_step_learns_as_in_its_middle() -> None:
    assert [Steps(4).middle(9.0, step, 9, 9) for step in range(4)] == [0.125, 0.375, 0.625, 0.875]
    # What is beyond the budget does not count: else the only step of a tenth of an epoch would learn nothing.
    epochs = Epochs(2, 50)
    assert [epochs.middle(9.0, 9, lists, 20) for lists in (0, 20, 80, 90)] == pytest.approx([0.1, 0.3, 0.9, 0.95])
    assert Epochs(0.1, 50).middle(0.0, 0, 0, 40) == 0.5
    minutes = Minutes(0.5, lambda: 99.0)
    assert [minutes.middle(progress, 9, 9, 9) for progress in (0.0, 0.3)] == [0.005, 0.3]


def test_a_replay_learns_as_was_recorded_and_of_an_old_record_at_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "steps.jsonl").write_text('{"progress": 0.0, "middle": 0.1}\n{"progress": 0.2}\n')
    replay = Replay.read(tmp_path / "steps.jsonl")
    assert [replay.middle(9.0, step, 9, 9) for step in (0, 1)] == [0.1, 0.2]


@pytest.mark.parametrize("by_clock", [True, False])
def test_a_replay_of_a_clock_is_one_too(tmp_path: Path, by_clock: bool) -> None:
    line = {"progress": 0.0, "by_clock": by_clock}
    (tmp_path / "steps.jsonl").write_text(json.dumps(line) + "\n")
    assert Replay.read(tmp_path / "steps.jsonl").by_clock is by_clock


@pytest.mark.parametrize(
    "content", ["broken", '{"step": 1}\n', "[1]\n", '{"progress": "x"}\n', '{"progress": null}\n', None]
)
def test_what_is_no_record_of_a_run_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "steps.jsonl").write_text(content)
    with pytest.raises(UserError, match=r"train\.replay: .*steps\.jsonl is not the steps\.jsonl of an earlier run"):
        Replay.read(tmp_path / "steps.jsonl")


@pytest.mark.parametrize(
    ("settings", "questions", "progress"),
    [({"steps": 8}, (2, 0), 0.25), ({"epochs": 2.0}, (0, 5), 0.25), ({"minutes": 1.0}, (5, 5), 0.0)],
)
def test_the_configuration_names_the_budget(
    settings: dict[str, Any], questions: tuple[int, int], progress: float
) -> None:
    assert make_budget(TrainConfig(**settings), 10, lambda: 0.0).progress(*questions) == progress


@pytest.mark.parametrize("name", ["", "steps.jsonl"])
def test_the_configuration_names_a_run_to_replay(name: str, tmp_path: Path) -> None:
    """By its folder, or by the file."""
    (tmp_path / "steps.jsonl").write_text('{"progress": 0.0}\n{"progress": 0.7}\n')
    assert make_budget(TrainConfig(replay=str(tmp_path / name)), 10, lambda: 0.0).progress(1, 0) == 0.7
