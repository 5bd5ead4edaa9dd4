"""What is recorded: equal to the bit when a training goes on after a kill, and readable in wandb and TensorBoard."""

from __future__ import annotations

import json
import math
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.train.selection import MEASURE
from secondstage.train.tracking import (
    DEV,
    RUN,
    STEPS,
    TIMING,
    StepRecord,
    Tracking,
    check_tracker,
    cut,
    flat,
    read_lines,
)

FACTS = {"config": {"learning_rate": 0.25, "loss": {"lce": {"weight": 1.0}}}, "git": None, "data": {"lists": 7}}


def config(tracker: Any = "none") -> TrainConfig:
    return TrainConfig(steps=5, tracker=tracker)


def record(step: int, seconds: float = 0.5, **values: Any) -> StepRecord:
    usual = StepRecord(
        step=step,
        progress=step / 5,
        middle=(step + 0.5) / 5,
        loss=2.0 / (step + 1),
        terms={"lce": 1.0 / (step + 1), "kl": 2.0},
        learning_rate=1e-4 * step,
        gradient_norm=3.0,
        lists=4,
        counted={"lce": 4, "kl": 3},
        pairs=32,
        tokens=400,
        padding=100,
        seconds=seconds,
    )
    return usual._replace(**values)


def run(tracking: Tracking, steps: range, *, seconds: float = 0.5) -> None:
    """Dev is evaluated before the third step."""
    for step in steps:
        if step == 2:
            tracking.evaluation(step, 0.75, 0.5, kept=True, seconds=seconds)
        tracking.step(record(step, seconds))


def test_a_step_and_an_evaluation_are_recorded_whole(tmp_path: Path) -> None:
    tracking = Tracking(config(), tmp_path)
    tracking.start(FACTS)
    tracking.evaluation(0, 0.75, 0.5, kept=True, seconds=4.0, values={"q1": 1.0, "q2": [math.nan, 0.5]})
    tracking.step(record(0, gradient_norm=math.inf))
    tracking.finish()
    assert json.loads((tmp_path / RUN).read_text()) == FACTS
    (step,), (dev,) = read_lines(tmp_path / STEPS), read_lines(tmp_path / DEV)
    expected = {**record(0)._asdict(), "gradient_norm": None}
    del expected["seconds"]
    assert step == expected
    assert dev == {"step": 0, MEASURE: 0.75, "first_stage": 0.5, "kept": True, "values": {"q1": 1.0, "q2": [None, 0.5]}}
    # 32 pairs and 300 tokens that are no padding in half a second.
    assert read_lines(tmp_path / TIMING) == [
        {"step": 0, "evaluation_seconds": 4.0},
        {"step": 0, "seconds": 0.5, "pairs_per_s": 64.0, "tokens_per_s": 600.0},
    ]


@pytest.mark.parametrize("killed_after", [2, 3, 5])
@pytest.mark.parametrize("half_a_line", ["", '{"step": 9, "lo'])
def test_a_training_that_goes_on_leaves_the_files_of_one_that_was_never_stopped(
    tmp_path: Path, killed_after: int, half_a_line: str
) -> None:
    """The checkpoint was written after two steps; what came between it and the kill comes again, with another clock."""
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = Tracking(config(), tmp_path / "whole")
    whole.start(FACTS)
    run(whole, range(5))
    whole.finish()

    killed = Tracking(config(), tmp_path / "killed")
    killed.start(FACTS)
    run(killed, range(2))
    state = json.loads(json.dumps(killed.state()))
    run(killed, range(2, killed_after))
    # No finish: the process is gone, perhaps in the middle of a line.
    for name in (STEPS, DEV, TIMING):
        with (tmp_path / "killed" / name).open("a") as file:
            file.write(half_a_line)

    again = Tracking(config(), tmp_path / "killed")
    again.start(FACTS, state)
    run(again, range(2, 5), seconds=0.25)
    again.finish()
    for name in (RUN, STEPS, DEV):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert [line["step"] for line in read_lines(tmp_path / "killed" / TIMING)] == [0, 1, 2, 2, 3, 4]


def test_what_was_recorded_is_on_the_disk_when_a_checkpoint_knows_of_it(tmp_path: Path) -> None:
    tracking = Tracking(config(), tmp_path)
    tracking.start(FACTS)
    run(tracking, range(3))
    assert tracking.state()["lines"] == {STEPS: 3, DEV: 1, TIMING: 4}
    assert len(read_lines(tmp_path / STEPS)) == 3


def test_a_new_training_starts_with_empty_files(tmp_path: Path) -> None:
    for _ in range(2):
        tracking = Tracking(config(), tmp_path)
        tracking.start(FACTS)
        run(tracking, range(3))
        tracking.finish()
    assert len(read_lines(tmp_path / STEPS)) == 3


def test_files_that_lost_lines_are_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / STEPS).write_text("{}\n{}\n{")
    with pytest.raises(UserError, match=r"steps\.jsonl has 2 lines, but the checkpoint was written after 3"):
        cut(tmp_path / STEPS, 3)
    assert (tmp_path / STEPS).read_text() == "{}\n{}\n{"


def test_only_the_lead_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    tracking = Tracking(config("wandb"), tmp_path)
    tracking.start(FACTS)
    run(tracking, range(3))
    tracking.state()
    tracking.finish()
    assert not list(tmp_path.iterdir())


def test_what_trackers_take_is_flat() -> None:
    nested = {"a": {"b": {"c": 1}, "d": None}, "e": [1, 2], "f": True, "g": {}}
    assert flat(nested) == {"a/b/c": 1, "a/d": None, "e": "[1, 2]", "f": True}


def test_a_tracker_that_cannot_start_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    def fail(**_: Any) -> None:
        raise ValueError("no account")

    monkeypatch.setattr(wandb, "init", fail)
    tracking = Tracking(config("wandb"), tmp_path)
    with pytest.raises(UserError, match=r"train\.tracker=wandb cannot start: no account; run `wandb login`, or set"):
        tracking.start(FACTS)
    tracking.finish()


def test_an_account_that_is_missing_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: Path
) -> None:
    """No network: wandb finds no key, so it asks nobody."""
    import wandb

    check_tracker(config("wandb"))
    check_tracker(config("tensorboard"))
    wandb.teardown()
    (tmp_path / "netrc").touch()
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(offline))
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(UserError, match=r"train\.tracker=wandb cannot start: nobody is logged in here; run `wandb"):
        check_tracker(config("wandb"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    import wandb

    wandb.teardown()  # it reads the environment once
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield tmp_path
    wandb.teardown()


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: a header of 7 bytes, then LevelDB's log format in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    record_type: Any = wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    assert data[:4] in (b"", b":W&B")
    block = 1 << 15
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        if at + 7 + length > len(data):
            return
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, or the last part
            yield record_type.Record.FromString(whole)
            whole = b""


def read_wandb(path: Path) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """The run's id, its configuration, and what was logged at each step."""
    name = ""
    settings: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    for found in wandb_records(path):
        kind = found.WhichOneof("record_type")
        if kind == "run":
            name = found.run.run_id
        if kind in ("run", "config"):
            update = found.run.config.update if kind == "run" else found.config.update
            settings |= {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in update}
        if kind == "history":
            items = found.history.item
            history.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return name, settings, history


def finished_wandb(folder: Path, steps: int) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """What a run below `folder` recorded, once it is all there: another process writes it."""
    deadline = time.monotonic() + 30
    while True:
        (path,) = folder.glob("wandb/offline-run-*/*.wandb")
        found = read_wandb(path)
        if len(found[2]) >= steps or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


@pytest.mark.parametrize(("given", "project"), [("search", "search"), ("", "secondstage")])
def test_wandb_keeps_the_project_of_its_environment(
    offline: Path, monkeypatch: pytest.MonkeyPatch, given: str, project: str
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", given)
    tracking = Tracking(config("wandb"), offline)
    tracking.start(FACTS)
    assert tracking._tracker.tracker.project == project
    tracking.finish()


def test_wandb_records_offline_and_goes_on_under_the_same_name(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    first = Tracking(config("wandb"), offline)
    first.start(FACTS)
    run(first, range(2))
    state = first.state()
    first.finish()
    # Elsewhere: a run of the same name and second would take the same folder.
    (offline / "again").mkdir()
    wandb.teardown()
    monkeypatch.setenv("WANDB_DIR", str(offline / "again"))
    second = Tracking(config("wandb"), offline)
    second.start(FACTS, state)
    run(second, range(2, 4))
    second.finish()

    one, other = finished_wandb(offline, 2), finished_wandb(offline / "again", 2)
    assert one[0] == other[0] == state["run"]
    for _, settings, _ in (one, other):
        assert settings["config/learning_rate"] == 0.25
        assert settings["data/lists"] == 7
    assert [line["_step"] for line in one[2] + other[2]] == [0, 1, 2, 3]
    assert [line["loss"] for line in one[2] + other[2]] == [2.0, 1.0, pytest.approx(2 / 3), 0.5]
    assert one[2][0]["terms/kl"] == 2
    assert one[2][0]["padding_waste"] == 0.25
    assert other[2][0][f"dev {MEASURE}"] == 0.75


def tensorboard_of_a_resumed_run(folder: Path, saved_at: int, lost: int, *evaluated: int) -> Any:
    """What TensorBoard shows of five steps, after a checkpoint and some steps that were lost and made again."""
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    first = Tracking(config("tensorboard"), folder)
    first.start(FACTS)
    run(first, range(saved_at))
    for step in evaluated:
        first.evaluation(step, 0.5, 0.25, kept=True, seconds=1.0)
    state = first.state()
    run(first, range(saved_at, saved_at + lost))
    first.finish()
    second = Tracking(config("tensorboard"), folder)
    second.start(FACTS, state)
    run(second, range(saved_at, 5))
    second.finish()
    found = event_accumulator.EventAccumulator(str(folder / "tensorboard" / "secondstage"))
    found.Reload()
    return found


def test_tensorboard_keeps_the_evaluation_before_the_checkpoint(tmp_path: Path) -> None:
    """It has the number of the step after the checkpoint, which an earlier process has logged, too."""
    found = tensorboard_of_a_resumed_run(tmp_path, 3, 1, 3)
    assert [event.step for event in found.Scalars("loss")] == [0, 1, 2, 3, 4]
    dev = found.Scalars(f"dev_{MEASURE}".replace("_", " "))
    assert [(event.step, event.value) for event in dev] == [(2, 0.75), (3, 0.5)]


def test_tensorboard_records_and_goes_on(tmp_path: Path) -> None:
    found = tensorboard_of_a_resumed_run(tmp_path, 2, 2)
    losses = [(event.step, event.value) for event in found.Scalars("loss")]
    assert losses == [(i, pytest.approx(2 / (i + 1))) for i in range(5)]
    assert [(event.step, event.value) for event in found.Scalars(f"dev_{MEASURE}".replace("_", " "))] == [(2, 0.75)]
    (settings,) = list((tmp_path / "tensorboard" / "secondstage").glob("*/hparams.yml"))[:1]
    assert "config/learning_rate: 0.25" in settings.read_text()
