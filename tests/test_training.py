"""One training as a whole, with what it may be asked for: folds, averages, parts, and words about what is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from secondstage.collection import Collection
from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.lists import POSITIVE, TrainingList, read_lists, write_lists
from secondstage.reranker import Reranker
from secondstage.rerankers import load_reranker
from secondstage.train import Task, train
from secondstage.train.schedule import Schedule, rate
from secondstage.train.selection import Selection

from .clock import steps_take
from .warmups import learnt_title

MEASURE = "nDCG@10"


def tuned(collection: Collection, mined: Path, model: Path, folder: Path, **settings: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "model": str(model),
        "steps": 12,
        "max_length": 32,
        "batch_tokens": 512,
        "precision": "fp32",
        "learning_rate": 2e-3,
    }
    folder.mkdir()
    return train(Task(collection, mined, TrainConfig.from_json(usual | settings), 13), folder)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was said since the last time."""
    return lambda: capsys.readouterr().err


def test_folds_choose_when_training_ends(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tuned(collection, mined, tiny_model, tmp_path / "out", folds=2, evaluations=4)
    assert found["stop_at"] in (0.25, 0.5, 0.75, 1.0)
    steps = lines(tmp_path / "out" / "steps.jsonl")
    assert found["steps"] == len(steps) == 12 * found["stop_at"]
    assert lines(tmp_path / "out" / "dev.jsonl")[-1]["progress"] == found["stop_at"]
    said = capsys.readouterr().err
    assert "3 times the budget" in said
    assert "of 32 held-out queries is highest" in said
    # Up to there it is the training that it would have been without folds.
    tuned(collection, mined, tiny_model, tmp_path / "plain", evaluations=4)
    assert steps == lines(tmp_path / "plain" / "steps.jsonl")[: len(steps)]


def test_training_ends_where_the_folds_say(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secondstage.train.training.choose_stop", lambda *_, **__: SimpleNamespace(progress=0.5))
    found = tuned(collection, mined, tiny_model, tmp_path / "out", folds=2, evaluations=4)
    assert (found["steps"], found["stop_at"]) == (6, 0.5)


def test_what_to_expect_is_told_before_the_folds(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Any
) -> None:
    """All of it: a fold is a whole training. What was found then is still told at the end."""

    def stop(*_: Any, **__: Any) -> Any:
        raise UserError("the folds begin")

    monkeypatch.setattr("secondstage.train.training.overlapping", lambda *_: "dev is given away")
    found = tuned(collection, mined, tiny_model, tmp_path / "out", folds=2, steps=4, evaluations=2)
    assert "dev is given away" in found["findings"]
    assert told().count("dev is given away") == 1
    monkeypatch.setattr("secondstage.train.training.choose_stop", stop)
    with pytest.raises(UserError, match="the folds begin"):
        tuned(collection, mined, tiny_model, tmp_path / "told", folds=2)
    said = told()
    assert said.index("dev queries") < said.index("an epoch has") < said.index("! dev is given away")


def test_what_was_found_is_told_at_the_end(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Any
) -> None:
    monkeypatch.setattr("secondstage.train.training.overlapping", lambda *_: "dev is given away")
    monkeypatch.setattr("secondstage.train.watch.random_order", lambda *_: "it orders as chance does")
    found = tuned(collection, mined, tiny_model, tmp_path / "out", steps=2)
    assert found["findings"] == ["dev is given away", "it orders as chance does"]
    said = told()
    assert said.index("an epoch has") < said.index("! dev is given away") < said.index("! it orders as chance does")


def test_without_dev_it_is_said_what_is_kept(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Any
) -> None:
    monkeypatch.setitem(collection.qrels, "dev", {query_id: {} for query_id in collection.qrels["dev"]})
    found = tuned(collection, mined, tiny_model, tmp_path / "out", steps=2)
    assert found[f"dev_{MEASURE}"] is None
    assert "no dev query has a relevant document: the last checkpoint is kept" in told()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError("no"), None])
def test_memory_that_is_not_enough_is_told_with_a_way_out(
    collection: Collection,
    mined: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None,
) -> None:
    def gradient(*_: Any) -> Any:
        if error is not None:
            raise error
        return torch.empty(1 << 60)

    monkeypatch.setattr("secondstage.train.loop.Loop.gradient", gradient)
    with pytest.raises(UserError, match=r"memory( of cpu)? is not enough: .*Lower train\.memory_tokens"):
        tuned(collection, mined, tiny_model, tmp_path / "out")


def test_another_error_stays_what_it_is(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradient(*_: Any) -> Any:
        raise RuntimeError("a shape is wrong")

    monkeypatch.setattr("secondstage.train.loop.Loop.gradient", gradient)
    with pytest.raises(RuntimeError, match="a shape is wrong"):
        tuned(collection, mined, tiny_model, tmp_path / "out")


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_rate_follows_the_schedule(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, schedule: Schedule
) -> None:
    tuned(collection, mined, tiny_model, tmp_path / "out", schedule=schedule, warmup=0.25, evaluations=1)
    steps = lines(tmp_path / "out" / "steps.jsonl")
    found = [step["learning_rate"] for step in steps]
    assert found == pytest.approx([2e-3 * rate((i + 0.5) / 12, 0.25, schedule) for i in range(12)])


def test_the_folds_of_a_time_budget_are_evaluated_as_often_as_asked(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each evaluation costs a whole training, so that all but the last would be left out; a step takes six seconds."""
    steps_take(6, monkeypatch)
    monkeypatch.setattr(Selection, "pairs", 10**6)
    settings = TrainConfig(
        model=str(tiny_model), minutes=2.0, max_length=32, batch_tokens=512, precision="fp32", folds=2, evaluations=4
    )
    (tmp_path / "out").mkdir()
    train(Task(collection, mined, settings, 13), tmp_path / "out", tmp_path / "work")
    for fold in ("fold-0", "fold-1"):
        progress = [line["progress"] for line in lines(tmp_path / "work" / fold / "dev.jsonl")]
        assert progress == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_who_taught_is_recorded(collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The teacher of the config, whatever the lists say of theirs."""
    Reranker.load(tiny_model, max_length=32, precision="fp32").save(teacher := tmp_path / "teacher")
    given: dict[str, Any] = {"max_length": 32, "loss": "kl", "teacher": str(teacher), "precision": "fp32"}
    task = Task(collection, mined, TrainConfig.from_json({"model": str(tiny_model), "steps": 1, **given}), 13)
    (tmp_path / "out").mkdir()
    train(task._replace(scores=tmp_path / "scores"), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["data"]["teachers"] == [str(teacher)]
    assert f"Teacher scores are from: {teacher}." in (tmp_path / "out" / "reranker" / "README.md").read_text()


@pytest.mark.parametrize("better", [True, False])
def test_the_best_checkpoints_are_averaged_where_that_is_better(
    collection: Collection,
    mined: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    better: bool,
) -> None:
    """Six evaluations find the same, so that the later ones are best; the seventh is that of the average."""
    found, weights = {}, []
    for name, average in (("one", 1), ("several", 3)):
        values = iter([0.5] * 6 + [0.6 if better else 0.4])
        monkeypatch.setattr(
            Selection, "values", lambda dev, *_, values=values, **__: dict.fromkeys(dev.qrels, next(values))
        )
        found[name] = tuned(collection, mined, tiny_model, tmp_path / name, evaluations=6, average=average)
        assert len(list(values)) == (name == "one")
        weights.append(load_file(tmp_path / name / "reranker" / "model.safetensors"))
    assert [details["averaged"] for details in found.values()] == [False, better]
    assert [details[f"dev_{MEASURE}"] for details in found.values()] == pytest.approx([0.5, 0.6 if better else 0.5])
    assert [details["best_step"] for details in found.values()] == [12, 12]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0]) is not better


def test_a_title_that_the_warm_up_learnt_is_left_out_of_dev(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secondstage.leakage.ENOUGH", 1)
    title = collection.queries[next(iter(collection.qrels["dev"]))].upper()
    chosen = {"model": str(tiny_model), "steps": 1, "max_length": 32, "precision": "fp32"}
    task = Task(collection, mined, TrainConfig.from_json(chosen), 13)
    found = []
    for name, warmed_on in (("cold", None), ("warm", learnt_title(tmp_path / "titles", title))):
        (tmp_path / name).mkdir()
        found.append(train(task._replace(warmed_on=warmed_on), tmp_path / name)["dev_queries"])
    assert found == [16, 15]


@pytest.mark.parametrize("student", [None, {"layers": 1, "match_hidden": 2.0}], ids=str)
def test_a_step_in_parts_is_the_same_step(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, student: dict[str, Any] | None
) -> None:
    """Parts of whole lists, and lists that are longer than memory holds, whose activations are made again."""
    curves = []
    usual: dict[str, Any] = {"steps": 6, "evaluations": 1, "loss": "lambdaloss", "student": student}
    for name, settings in {"whole": {}, "lists": {"memory_tokens": 200}, "cached": {"memory_tokens": 64}}.items():
        tuned(collection, mined, tiny_model, tmp_path / name, **usual, **settings)
        steps = lines(tmp_path / name / "steps.jsonl")
        assert all(("matching" in step["terms"]) is (student is not None) for step in steps)
        curves.append([value for step in steps for value in (step["loss"], *step["terms"].values())])
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert curves[2] == pytest.approx(curves[0], rel=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "bce"},
        {"loss": {"listmle": 1, "hinge": {"weight": 0.5, "margin": 2.0}}, "positives": 2},
        {"schedule": "cosine", "layer_decay": 0.8, "ema": 0.9, "freeze_embeddings": True},
        {"lora": {"rank": 2}},
        {"student": {"layers": 1}},
        {"gradient_checkpointing": True},
        {"precision": "bf16", "dropout": 0.1},
    ],
    ids=str,
)
def test_what_is_asked_for_is_trained_and_opens_again(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    found = tuned(collection, mined, tiny_model, tmp_path / "out", **settings)
    steps = lines(tmp_path / "out" / "steps.jsonl")
    assert len(steps) == found["steps"] == 12
    assert all(step["gradient_norm"] > 0 for step in steps)
    scores = load_reranker(tmp_path / "out" / "reranker").score([("snow", "snow and ice"), ("snow", "a loaf")])
    assert len(set(scores.tolist())) == 2
    assert (tmp_path / "out" / "curves.html").is_file()
    card = (tmp_path / "out" / "reranker" / "README.md").read_text()
    assert "12 steps" in card
    assert f"{found[f'dev_{MEASURE}']:.4f}" in card


def test_a_training_that_learns_nothing_is_told_in_words(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tuned(collection, mined, tiny_model, tmp_path / "out", steps=80, learning_rate=1e-9)
    assert any("collapsed scores" in finding for finding in found["findings"])
    assert capsys.readouterr().err.count("collapsed scores") == 1
    assert "collapsed scores" in (tmp_path / "out" / "reranker" / "README.md").read_text()


def test_what_to_expect_is_told_first(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned(collection, mined, tiny_model, tmp_path / "out")
    said = capsys.readouterr().err
    assert said.index("32 lists") < said.index("step 4: dev")
    assert "dev: 16 queries" in said
    assert "proposed: train." in said


def test_what_tensorboard_was_told_stays(collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path) -> None:
    tuned(collection, mined, tiny_model, tmp_path / "out", tracker="tensorboard")
    assert list((tmp_path / "out" / "tensorboard").rglob("events.out.tfevents.*"))


def test_lists_that_give_no_step_are_refused(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Every list has a teacher's scores for its positives alone, of which a step takes one."""
    lists = []
    for found in read_lists(mined / "train"):
        positives = found.with_role(POSITIVE)
        scored = [
            c._replace(doc_id=f"{collection.documents.ids[i]}", teacher_score=1.0) for i, c in enumerate(positives * 2)
        ]
        lists.append(TrainingList(found.query_id, tuple(scored)))
    write_lists(tmp_path / "mined" / "train", lists, ["large"])
    (tmp_path / "mined" / "dev.trec").write_text("")
    with pytest.raises(UserError, match="none of 32 lists gives a step"):
        tuned(collection, tmp_path / "mined", tiny_model, tmp_path / "out", loss="kl")


@pytest.mark.parametrize("worse", [True, False])
def test_a_teacher_that_orders_worse_than_the_first_stage_is_told_of(
    collection: Collection,
    mined: Path,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    worse: bool,
) -> None:
    """One that turns the first stage's order round, and one that repeats it."""
    sign = -1 if worse else 1
    lists = [
        found._replace(candidates=tuple(c._replace(teacher_score=sign * c.score) for c in found.candidates))
        for found in read_lists(mined / "train")
    ]
    write_lists(tmp_path / "mined" / "train", lists, ["large"])
    (tmp_path / "mined" / "dev.trec").write_text("")
    found = tuned(collection, tmp_path / "mined", tiny_model, tmp_path / "out", loss="kl", steps=1)
    told = [finding for finding in found["findings"] if "the teacher orders the candidates of" in finding]
    assert bool(told) is worse
    assert ("worse than the first stage does" in capsys.readouterr().err) is worse
    if worse:  # who does not learn from it is not told
        tuned(collection, tmp_path / "mined", tiny_model, tmp_path / "labels", loss="lce", steps=1)
        assert "the teacher orders" not in capsys.readouterr().err
