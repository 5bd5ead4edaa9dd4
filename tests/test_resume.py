"""Going on after a training was stopped, at any place and in any way: to the bit as if it had never been."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from secondstage.collection import Collection
from secondstage.config import TrainConfig
from secondstage.errors import StoppedError
from secondstage.train import Task, share
from secondstage.train.loop import Loop
from secondstage.train.pace import Decision, Pace
from secondstage.train.weights import Weights

from .children import Blow, Round, play

KEPT = ("reranker/model.safetensors", "reranker/score.json", "steps.jsonl", "dev.jsonl")


def settings(tiny_model: Path, **more: Any) -> dict[str, Any]:
    """Eight steps an epoch or so."""
    usual: dict[str, Any] = {
        "model": str(tiny_model),
        "max_length": 32,
        "batch_tokens": 400,
        "precision": "fp32",
        "learning_rate": 1e-3,
        "checkpoint_steps": 4,
    }
    if not more.keys() & {"minutes", "epochs"}:
        usual["steps"] = 14
    return usual | more


class Killed(BaseException):
    """As nothing catches it but `finally`, this is nearly a kill."""


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each training that came to its end had learnt: weights, optimizer, average."""
    found: list[dict[str, Any]] = []
    finish = Loop._finish

    def finishing(self: Loop, seconds: float) -> dict[str, Any]:
        found.append(self.weights.state())
        return finish(self, seconds)

    monkeypatch.setattr(Loop, "_finish", finishing)
    return found


def killed(task: Task, work: Path, at: int, seen: Callable[[Loop], object] = id) -> None:
    """Train until so many steps are made, and die; `seen` is called before each step."""
    step = Loop._step

    def struck(self: Loop, batch: Any, progress: float) -> float:
        seen(self)
        if self.done.steps == at:
            raise Killed
        return step(self, batch, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_step", struck)
        with pytest.raises(Killed):
            share(task, work)


def trained(task: Task, work: Path, *, stops: tuple[int, ...] = ()) -> dict[str, Any]:
    """Train, and be killed before these steps."""
    for stop in stops:
        killed(task, work, stop)
        torch.rand(5)  # nothing hangs on the state of a generator
    found: dict[str, Any] = share(task, work)["details"]
    return found


def assert_same(one: Path, other: Path) -> None:
    for name in KEPT:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def assert_same_state(one: Any, other: Any) -> None:
    assert list(map(str, tensors(one))) == list(map(str, tensors(other)))
    for (name, first), (_, second) in zip(tensors(one), tensors(other), strict=True):
        assert torch.equal(first, second), name


def tensors(state: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors and numbers of nested mappings and lists, by their place."""
    if isinstance(state, dict):
        for key, value in state.items():
            yield from tensors(value, f"{name}/{key}")
    elif isinstance(state, list | tuple):
        for i, value in enumerate(state):
            yield from tensors(value, f"{name}/{i}")
    elif isinstance(state, Tensor):
        yield name, state
    elif isinstance(state, int | float):
        yield name, torch.tensor(state, dtype=torch.float64)


@pytest.mark.parametrize(
    "more",
    [
        {"dropout": 0.1, "ema": 0.9},
        {"precision": "bf16", "dropout": 0.1, "memory_tokens": 64},
        {"epochs": 1.7, "average": 3, "evaluations": 6, "freeze_layers": 1},
        {"patience": 1, "evaluations": 7, "learning_rate": 1e-9, "keep_checkpoints": 2},
        {"steps": 5, "evaluations": 10, "checkpoint_steps": 2},  # at every step, of which there are fewer
        {"precision": "bf16", "ema": 0.5, "epochs": 1.2, "loss": {"lce": 1, "lambdaloss": 0.5}, "schedule": "cosine"},
    ],
    ids=str,
)
def test_a_stopped_training_goes_on_to_the_bit(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, ends: list[Any], more: dict[str, Any]
) -> None:
    task = Task(collection, mined, TrainConfig(**settings(tiny_model, **more)), 13)
    one = trained(task, tmp_path / "one")
    last = int(one["steps"])
    assert last >= 4
    # Before the first checkpoint, right at one, and between two.
    stops = tuple(stop for stop in (2, 4, 7, 11) if stop < last)
    other = trained(task, tmp_path / "other", stops=stops)
    assert_same(tmp_path / "one", tmp_path / "other")
    assert_same_state(*ends)
    timed = {"training_seconds"}
    assert {name: one[name] for name in one.keys() - timed} == {name: other[name] for name in other.keys() - timed}


def test_the_best_reranker_is_there_when_a_training_goes_on_before_a_better_one(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """The clock of a time budget may then evaluate at other steps, or never find the better one again."""
    config = TrainConfig(**settings(tiny_model, steps=12, evaluations=4, checkpoint_steps=5, learning_rate=1e-9))
    task = Task(collection, mined, config, 13)
    seen: list[set[str]] = []
    killed(task, tmp_path, 8, lambda loop: seen.append({path.name for path in loop.folder.glob("best-*")}))
    # Equal values: the later one is the best. The one after three steps is what the checkpoint after five knows of.
    assert seen[7] == {"best-00000003", "best-00000006"}
    share(task, tmp_path)
    # The checkpoint after ten knows of the one after nine.
    assert {path.name for path in tmp_path.glob("best-*")} == {"best-00000009", "best-00000012"}


def test_a_time_budget_goes_on_with_the_time_that_is_left(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that tells one second more each time somebody looks, and a year more after the kill."""
    from secondstage.train import budget

    class Time:
        now = 0.0

        def monotonic(self) -> float:
            self.now += 1
            return self.now

    clock = Time()
    monkeypatch.setattr(budget, "time", clock)
    task = Task(collection, mined, TrainConfig(**settings(tiny_model, minutes=1.0)), 13)
    whole = trained(task, tmp_path / "one")
    clock.now = 0.0
    killed(task, tmp_path / "other", 6)
    clock.now += 3e7
    saved = json.loads(next((tmp_path / "other").glob("step-*/state.json")).read_text())["done"]["seconds"]
    assert 0 < saved < 60
    found = share(task, tmp_path / "other")["details"]
    assert whole["steps"] - 2 <= found["steps"] <= whole["steps"]
    assert found["training_seconds"] == pytest.approx(whole["training_seconds"], abs=8)
    progress = [json.loads(line)["progress"] for line in (tmp_path / "other" / "steps.jsonl").read_text().splitlines()]
    assert progress == sorted(progress)
    assert max(b - a for a, b in itertools.pairwise(progress)) < 0.25


def test_the_time_of_an_evaluation_before_a_checkpoint_counts(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from secondstage.train import budget

    class Time:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

    clock, evaluate, saved = Time(), Loop._evaluate, Weights.save
    monkeypatch.setattr(budget, "time", clock)

    def slow(self: Loop, progress: float, *, last: bool = False) -> None:
        clock.now += 100
        evaluate(self, progress, last=last)

    seconds = []

    def saving(self: Weights, checkpoints: Any, step: int, record: dict[str, Any]) -> None:
        seconds.append((step, record["done"]["seconds"]))
        saved(self, checkpoints, step, record)

    monkeypatch.setattr(Loop, "_evaluate", slow)
    monkeypatch.setattr(Weights, "save", saving)
    config = TrainConfig(**settings(tiny_model, steps=8, evaluations=2))
    share(Task(collection, mined, config, 13), tmp_path)
    assert seconds == [(4, 100.0), (8, 100.0)]


def test_a_request_to_stop_in_the_last_step_is_heard(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Pace.ask

    def asked(self: Pace, step: int, lists: int) -> Decision:
        return ask(self, step, lists)._replace(stop=step == 14)

    task = Task(collection, mined, TrainConfig(**settings(tiny_model)), 13)
    with monkeypatch.context() as patch:
        patch.setattr(Pace, "ask", asked)
        with pytest.raises(StoppedError, match="after 14 steps: run the same command"):
            share(task, tmp_path / "other")
    trained(task, tmp_path / "one")
    trained(task, tmp_path / "other")
    assert_same(tmp_path / "one", tmp_path / "other")


@pytest.mark.parametrize("more", [{}, {"patience": 1, "evaluations": 7, "learning_rate": 1e-9}], ids=str)
@pytest.mark.parametrize("place", ["__init__", "_evaluate", "_finish"])
def test_a_request_to_stop_between_steps_is_heard(
    collection: Collection,
    mined: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    more: dict[str, Any],
) -> None:
    """While texts are tokenised, in the last evaluation, and when the best is put in its place."""
    task = Task(collection, mined, TrainConfig(**settings(tiny_model, **more)), 13)
    one = trained(task, tmp_path / "one")
    last, came = int(one["evaluations"]), list[bool]()
    method = getattr(Loop, place)

    def struck(self: Loop, *arguments: Any, **named: Any) -> Any:
        if place != "_evaluate" or self.done.evaluations == last - 1:
            came.append(True)
        return method(self, *arguments, **named)

    @contextmanager
    def heeding() -> Iterator[Callable[[], bool]]:
        yield lambda: bool(came)

    with monkeypatch.context() as patch:
        patch.setattr("secondstage.train.training.heeding_signals", heeding)
        patch.setattr(Loop, place, struck)
        with pytest.raises(StoppedError, match="steps: run the same command"):
            share(task, tmp_path / "other")
    kept = [] if place == "__init__" else [f"step-{one['steps']:08}"]
    assert [path.name for path in (tmp_path / "other").glob("step-*")] == kept
    trained(task, tmp_path / "other")
    assert_same(tmp_path / "one", tmp_path / "other")


# --- real processes


def job(collection: Collection, mined: Path, work: Path, chosen: dict[str, Any]) -> dict[str, Any]:
    return {"collection": str(collection.folder), "mined": str(mined), "work": str(work), "settings": chosen}


def end(folder: Path, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / f"end-{rank}.pt", weights_only=True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2])
def test_a_killed_training_goes_on_to_the_bit(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, size: int
) -> None:
    """Killed in a step, in an evaluation, and with half a checkpoint written; then the disk is full."""
    chosen = settings(tiny_model, dropout=0.1, ema=0.9, precision="bf16", evaluations=4, average=2)
    one, other = (job(collection, mined, tmp_path / name, chosen) for name in ("one", "other"))
    blows = [
        Blow(size - 1, 3),
        Blow(0, 8, where="checkpoint"),
        Blow(size - 1, 7, where="evaluation"),
        Blow(0, 11),
        Blow(0, 12, "full", "checkpoint"),
    ]
    plan = [Round(size, [one]), *(Round(size, [other], [blow]) for blow in blows), Round(size, [other])]
    whole, *struck, full, last = play(plan, tmp_path / "children")
    assert [ended.code for ended in whole + last] == [0] * size * 2, last[0].output
    for blow, ended in zip(blows, struck, strict=False):
        assert ended[blow.rank].code == -9, ended[blow.rank].output
        for survivor in ended[: blow.rank] + ended[blow.rank + 1 :]:
            assert survivor.code == 1
            assert "another process of this run has failed" in survivor.output
    assert full[0].code == 1
    assert "No space left on device" in full[0].output
    assert_same(tmp_path / "one", tmp_path / "other")
    assert not list((tmp_path / "other").glob(".*"))
    for rank in range(size):
        assert_same_state(end(tmp_path / "one", rank), end(tmp_path / "other", rank))
        assert_same_state(end(tmp_path / "one", 0)["weights"], end(tmp_path / "one", rank)["weights"])
