"""Training as a whole: repeatable to the bit, and worth its time."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from secondstage.calibration import Calibration
from secondstage.collection import Collection
from secondstage.config import Bm25Config, TrainConfig
from secondstage.errors import UserError
from secondstage.firststage import search_run
from secondstage.firststage.bm25 import Bm25
from secondstage.lists import IGNORED, NEGATIVE, POSITIVE, Candidate, TrainingList, read_lists, write_lists
from secondstage.measures import Values, evaluate, mean
from secondstage.reranker import Reranker
from secondstage.run import Run, read_trec
from secondstage.scoring import Scorer
from secondstage.texts import PairTexts
from secondstage.train import Task, train
from secondstage.train.loop import Loop
from secondstage.train.selection import MEASURE, Selection

from .clock import steps_take

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def lists(mined: Path) -> list[TrainingList]:
    return list(read_lists(mined / "train"))


def texts(collection: Collection) -> PairTexts:
    return PairTexts(collection.queries, collection.documents)


def config(tiny_model: Path, **settings: Any) -> TrainConfig:
    usual: dict[str, Any] = {"max_length": 32, "batch_tokens": 512, "precision": "fp32", "learning_rate": 1e-3}
    if not settings.keys() & {"minutes", "epochs", "replay"}:
        usual["steps"] = 12
    return TrainConfig(model=str(tiny_model), **(usual | settings))


def tuned(collection: Collection, mined: Path, folder: Path, settings: TrainConfig, seed: int = 13) -> dict[str, Any]:
    folder.mkdir()
    return train(Task(collection, mined, settings, seed), folder)


def weights(folder: Path) -> Weights:
    return load_file(folder / "reranker" / "model.safetensors")


def identical(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def told(manifest: dict[str, Any]) -> dict[str, Any]:
    """What neither a clock nor lists that are left out have a part in."""
    return {name: value for name, value in manifest.items() if name not in ("training_seconds", "lists_left_out")}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_bits(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, precision: str
) -> None:
    settings = config(tiny_model, precision=precision, dropout=0.1, evaluations=2)
    for name, seed in (("a", 13), ("b", 13), ("c", 14)):
        tuned(collection, mined, tmp_path / name, settings, seed)
        torch.rand(7)  # what an earlier run left in the global generators does not matter
    assert identical(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not identical(weights(tmp_path / "a"), weights(tmp_path / "c"))
    for file in ("steps.jsonl", "dev.jsonl"):
        assert (tmp_path / "a" / file).read_text() == (tmp_path / "b" / file).read_text()
    assert (tmp_path / "a" / "steps.jsonl").read_text() != (tmp_path / "c" / "steps.jsonl").read_text()


def test_a_replay_of_a_time_budget_gives_the_same_bits(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes six of sixty seconds."""
    steps_take(6, monkeypatch)
    first = tuned(collection, mined, tmp_path / "first", config(tiny_model, minutes=1.0))
    again = tuned(collection, mined, tmp_path / "again", config(tiny_model, replay=str(tmp_path / "first")))
    assert first["steps"] == len(lines(tmp_path / "first" / "steps.jsonl")) == 10
    assert told(again) == told(first)
    assert identical(weights(tmp_path / "first"), weights(tmp_path / "again"))
    for file in ("steps.jsonl", "dev.jsonl"):
        assert (tmp_path / "first" / file).read_text() == (tmp_path / "again" / file).read_text()


def test_models_are_loaded_whole_whatever_deepspeed_is_told(
    collection: Collection,
    lists: list[TrainingList],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its third stage has transformers spread every model, once Accelerate has met an accelerator."""

    class Third:
        def is_zero3(self) -> bool:
            return True

    monkeypatch.setattr("transformers.integrations.deepspeed._hf_deepspeed_config_weak_ref", Third)
    Loop(texts(collection), lists, no_dev(collection), config(tiny_model), seed=13, folder=tmp_path)
    assert not is_deepspeed_zero3_enabled()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("budget", [{"steps": 1}, {"epochs": 0.05}])
def test_the_only_step_learns(
    collection: Collection, lists: list[TrainingList], tiny_model: Path, tmp_path: Path, budget: dict[str, Any]
) -> None:
    settings = config(tiny_model, **budget)
    loop = Loop(texts(collection), lists, no_dev(collection), settings, seed=13, folder=tmp_path)
    start = {name: weight.clone() for name, weight in loop.scorer.model.state_dict().items()}
    assert loop.run()["steps"] == 1
    assert not torch.equal(start["classifier.weight"], weights(tmp_path)["classifier.weight"])


def test_every_step_has_the_rate_of_its_middle(
    collection: Collection, lists: list[TrainingList], tiny_model: Path, tmp_path: Path
) -> None:
    """Up over the first half of eight steps, then down: on straight lines, symmetrical, none of them nothing."""
    settings = config(tiny_model, steps=8, warmup=0.5, learning_rate=8e-3)
    Loop(texts(collection), lists, no_dev(collection), settings, seed=13, folder=tmp_path).run()
    rates = [line["learning_rate"] for line in lines(tmp_path / "steps.jsonl")]
    assert rates == pytest.approx([1e-3, 3e-3, 5e-3, 7e-3, 7e-3, 5e-3, 3e-3, 1e-3])


@pytest.mark.parametrize("budget", [{"steps": 5}, {"epochs": 0.9}])
def test_a_replay_of_steps_and_epochs_gives_the_same_bits(
    collection: Collection, lists: list[TrainingList], tiny_model: Path, tmp_path: Path, budget: dict[str, Any]
) -> None:
    for name, chosen in (("first", budget), ("again", {"replay": str(tmp_path / "first")})):
        (tmp_path / name).mkdir()
        settings = config(tiny_model, **chosen)
        Loop(texts(collection), lists, no_dev(collection), settings, seed=13, folder=tmp_path / name).run()
    assert identical(weights(tmp_path / "first"), weights(tmp_path / "again"))
    assert (tmp_path / "first" / "steps.jsonl").read_text() == (tmp_path / "again" / "steps.jsonl").read_text()


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A clock of whole seconds: a step takes 6, an evaluation 90. Gives the steps before which dev was reranked."""
    now, evaluated, evaluate = steps_take(6, monkeypatch), list[int](), Loop._evaluate

    def evaluating(self: Loop, progress: float, *, last: bool = False) -> None:
        evaluated.append(self.done.steps)
        now[0] += 90
        evaluate(self, progress, last=last)

    monkeypatch.setattr(Loop, "_evaluate", evaluating)
    return evaluated


@pytest.mark.parametrize("stops", [(), (10, 11, 35)])
def test_slow_evaluations_leave_half_of_the_time_to_the_training(
    collection: Collection,
    lists: list[TrainingList],
    tiny_model: Path,
    tmp_path: Path,
    timed: list[int],
    stops: tuple[int, ...],
) -> None:
    """Of ten minutes a tenth is 60 s. From 60 s on the first takes 96 with its step: the next is due at 300, then 540.

    Stopped before a step whose evaluation was made, it goes on with its step; a replay evaluates at the same steps.
    """

    def run(name: str, **settings: Any) -> dict[str, Any]:
        (tmp_path / name).mkdir(exist_ok=True)
        chosen = config(tiny_model, evaluations=10, checkpoint_steps=5, **settings)
        return Loop(texts(collection), lists, no_dev(collection), chosen, seed=13, folder=tmp_path / name).run()

    for stop in stops:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Loop, "_forward", stopped_before(stop, Loop._forward))
            with pytest.raises(KeyboardInterrupt):
                run("first", minutes=10.0)
    steps = run("first", minutes=10.0)["steps"]
    evaluated = timed.copy()
    assert stops or (steps, evaluated) == (61, [10, 35, 60, 61])
    timed.clear()
    run("again", replay=str(tmp_path / "first"))
    assert timed == evaluated
    assert identical(weights(tmp_path / "first"), weights(tmp_path / "again"))
    assert (tmp_path / "first" / "steps.jsonl").read_text() == (tmp_path / "again" / "steps.jsonl").read_text()


@pytest.mark.parametrize(
    ("affordable", "patience", "expected"),
    [(0.9, None, [100]), (1.1, None, [75, 85]), (3.1, None, [25, 60, 70]), (0.9, 9, [25, 60, 70])],
)
def test_evaluations_that_cost_more_than_a_tenth_are_left_out_the_first_ones_first(
    collection: Collection,
    lists: list[TrainingList],
    tiny_model: Path,
    tmp_path: Path,
    timed: list[int],
    monkeypatch: pytest.MonkeyPatch,
    affordable: float,
    patience: int | None,
    expected: list[int],
) -> None:
    """A step is a hundredth of ten minutes, an evaluation 15; a replay evaluates at the same steps.

    What is due at a half has passed when the training has had as long as the evaluation at a quarter took.
    """
    settings = config(tiny_model, steps=100, batch_tokens=64)
    whole = Loop(texts(collection), lists, no_dev(collection), settings, seed=13, folder=tmp_path).run()["pairs"]
    timed.clear()
    monkeypatch.setattr(Selection, "pairs", 0.3 * whole / affordable)
    for name, budget in (("first", {"minutes": 10.0}), ("again", {"replay": str(tmp_path / "first")})):
        (tmp_path / name).mkdir()
        chosen = config(tiny_model, evaluations=4, patience=patience, batch_tokens=64, **budget)
        Loop(texts(collection), lists, no_dev(collection), chosen, seed=13, folder=tmp_path / name).run()
    found = timed[: len(timed) // 2]
    assert timed == 2 * found
    assert found == expected


def stopped_before(stop: int, forward: Any) -> Any:
    """`Loop._forward`, interrupted in that step."""

    def stopping(self: Loop, *args: Any) -> Any:
        if self.done.steps == stop:
            raise KeyboardInterrupt
        return forward(self, *args)

    return stopping


def test_overfitting_beats_the_start_on_its_own_queries(
    collection: Collection, lists: list[TrainingList], tiny_model: Path, tmp_path: Path
) -> None:
    few = lists[::4]  # one of each topic
    settings = config(tiny_model, steps=150, learning_rate=2e-3, warmup=0.05)
    loop = Loop(texts(collection), few, no_dev(collection), settings, seed=13, folder=tmp_path)
    queries = {x.query_id: collection.queries[x.query_id] for x in few}
    qrels = {query_id: collection.split("train")[query_id] for query_id in queries}
    run = search_run(Bm25.build(Bm25Config(), collection.documents), collection.documents.ids, queries, 10)

    def value(reranker: Reranker) -> float:
        reranked = reranker.rerank(run, collection.queries, collection.documents)
        return mean(evaluate(reranked, qrels, [MEASURE])[MEASURE])

    untrained = value(Reranker(loop.scorer.model.eval(), loop.scorer.tokenizer, max_length=32))
    loop.run()
    steps = lines(tmp_path / "steps.jsonl")
    assert steps[0]["loss"] > 2
    assert steps[-1]["loss"] < 0.5
    assert value(Reranker.load(tmp_path / "reranker", precision="fp32")) > max(0.9, untrained + 0.2)


def test_the_kept_checkpoint_is_the_best_on_dev(
    collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path
) -> None:
    settings = config(tiny_model, steps=24, evaluations=6, learning_rate=5e-3)
    manifest = tuned(collection, mined, tmp_path / "out", settings)
    found = lines(tmp_path / "out" / "dev.jsonl")
    values = [line[MEASURE] for line in found]
    assert [line["step"] for line in found] == [4, 8, 12, 16, 20, 24]
    assert len(set(values)) > 2
    *earlier, last = found
    assert [line["kept"] for line in earlier] == [value >= max(values[: i + 1]) for i, value in enumerate(values[:-1])]
    best = max(earlier, key=lambda line: (line[MEASURE], line["step"]))
    gaps = [value - last["values"][query_id] for query_id, value in best["values"].items()]
    assert last["kept"] == (statistics.fmean(gaps) <= statistics.stdev(gaps) / len(gaps) ** 0.5)
    kept = (last if last["kept"] else best)[MEASURE]
    assert manifest[f"dev_{MEASURE}"] == kept
    selection = dev(collection, mined)
    reranker = Reranker.load(tmp_path / "out" / "reranker", precision="fp32")
    assert mean(selection.values(reranker)) == pytest.approx(kept, abs=1e-9)


def dev(collection: Collection, mined: Path) -> Selection:
    return Selection(read_trec(mined / "dev.trec"), collection.qrels["dev"], texts(collection))


def no_dev(collection: Collection) -> Selection:
    return Selection(Run("first_stage", {}), {}, texts(collection))


def test_without_dev_the_last_checkpoint_is_kept(
    collection: Collection, lists: list[TrainingList], tiny_model: Path, tmp_path: Path
) -> None:
    loop = Loop(texts(collection), lists, no_dev(collection), config(tiny_model), seed=13, folder=tmp_path)
    manifest = loop.run()
    last = {name: value for name, value in loop.weights.master.state_dict().items() if name in weights(tmp_path)}
    assert identical(weights(tmp_path), last)
    assert manifest[f"dev_{MEASURE}"] is None
    assert lines(tmp_path / "dev.jsonl") == []


def test_in_half_precision_the_working_copy_follows_the_weights_that_learn(
    collection: Collection, lists: list[TrainingList], tiny_model: Path, tmp_path: Path
) -> None:
    settings = config(tiny_model, steps=5, precision="bf16", warmup=0.0)
    loop = Loop(texts(collection), lists, no_dev(collection), settings, seed=13, folder=tmp_path)
    before = [parameter.detach().clone() for parameter in loop.weights.master.parameters()]
    loop.run()
    after, working = (list(network.parameters()) for network in (loop.weights.master, loop.weights.working))
    assert not torch.equal(before[0].bfloat16(), after[0].bfloat16())
    for learnt, copied in zip(after, working, strict=True):
        assert torch.equal(copied, learnt.to(copied.dtype))


class Sinking(Selection):
    """Finds every checkpoint worse than the one before."""

    seen = 0

    def values(self, scorer: Scorer, *, shared: bool = True) -> Values:
        self.seen += 1
        return dict.fromkeys(self.qrels, 1 / self.seen)


def test_a_later_and_worse_checkpoint_does_not_replace_the_best(
    collection: Collection, mined: Path, lists: list[TrainingList], tiny_model: Path, tmp_path: Path
) -> None:
    run = read_trec(mined / "dev.trec")
    (tmp_path / "long").mkdir()
    sinking = Sinking(run.top(5), collection.qrels["dev"], texts(collection))
    settings = config(tiny_model, steps=8, evaluations=4, warmup=0.0)
    manifest = Loop(texts(collection), lists, sinking, settings, seed=13, folder=tmp_path / "long").run()
    assert [line["kept"] for line in lines(tmp_path / "long" / "dev.jsonl")] == [True, False, False, False]
    assert manifest[f"dev_{MEASURE}"] == 1
    # The kept weights are those after two steps: a replay of just these ends there.
    recorded = (tmp_path / "long" / "steps.jsonl").read_text().splitlines()[:2]
    (tmp_path / "two.jsonl").write_text("\n".join(recorded))
    (tmp_path / "short").mkdir()
    short = config(tiny_model, replay=str(tmp_path / "two.jsonl"), warmup=0.0)
    Loop(texts(collection), lists, no_dev(collection), short, seed=13, folder=tmp_path / "short").run()
    assert identical(weights(tmp_path / "long"), weights(tmp_path / "short"))


class Watching(Selection):
    """Notes whether the model that it is given is in training."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.training: list[bool] = []

    def values(self, scorer: Any, *, shared: bool = True) -> Values:
        self.training.append(scorer.model.training)
        return dict.fromkeys(self.qrels, 0.5)


def test_steps_drop_out_and_evaluations_do_not(
    collection: Collection, mined: Path, lists: list[TrainingList], tiny_model: Path, tmp_path: Path
) -> None:
    """Nor does an evaluation change anything of the steps after it."""
    losses = {}
    for dropout, evaluations in ((0.0, 2), (0.5, 2), (0.5, 1)):
        watching = Watching(read_trec(mined / "dev.trec"), collection.qrels["dev"], texts(collection))
        settings = config(tiny_model, steps=2, dropout=dropout, evaluations=evaluations)
        folder = tmp_path / f"{dropout}-{evaluations}"
        folder.mkdir()
        Loop(texts(collection), lists, watching, settings, seed=13, folder=folder).run()
        assert watching.training == [False] * evaluations
        losses[dropout, evaluations] = [line["loss"] for line in lines(folder / "steps.jsonl")]
    assert losses[0.0, 2][0] != losses[0.5, 2][0]
    assert losses[0.5, 2] == losses[0.5, 1]


def test_epochs_see_every_list_as_often(
    collection: Collection, lists: list[TrainingList], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop(texts(collection), lists, no_dev(collection), config(tiny_model, epochs=2.0), seed=13, folder=tmp_path)
    seen: Counter[str] = Counter()
    step = loop._step

    def counted(batch: Any, progress: float) -> float:
        seen.update(example.query_id for example in batch.examples)
        return step(batch, progress)

    monkeypatch.setattr(loop, "_step", counted)
    manifest = loop.run()
    assert seen == dict.fromkeys(collection.split("train"), 2)
    assert manifest["lists"] == 2 * len(lists)


def test_grades_too_large_for_a_loss_are_refused_before_the_first_step(
    collection: Collection, lists: list[TrainingList], tiny_model: Path, tmp_path: Path
) -> None:
    high = [c._replace(relevance=130) if c.role == POSITIVE else c for c in lists[-1].candidates]
    found = [*lists[:-1], TrainingList(lists[-1].query_id, tuple(high))]
    settings = config(tiny_model, loss="lambdaloss")
    with pytest.raises(UserError, match="relevance 130 is too large for lambdaloss"):
        Loop(texts(collection), found, no_dev(collection), settings, seed=13, folder=tmp_path)


def test_lists_without_positive_or_negative_are_passed_over(
    collection: Collection, mined: Path, lists: list[TrainingList], tiny_model: Path, tmp_path: Path
) -> None:
    """Those of odd number lose one or the other; what is ignored is no negative."""
    lost = (POSITIVE, NEGATIVE)
    odd = [TrainingList(x.query_id, tuple(without(x, lost[i // 2 % 2]))) for i, x in enumerate(lists) if i % 2]
    write_lists(tmp_path / "mined" / "train", [*odd, *lists[::2]])
    shutil.copy(mined / "dev.trec", tmp_path / "mined")
    write_lists(tmp_path / "half" / "train", lists[::2])
    shutil.copy(mined / "dev.trec", tmp_path / "half")
    made = tuned(collection, tmp_path / "mined", tmp_path / "out", config(tiny_model, epochs=1.0))
    assert told(made) == told(tuned(collection, tmp_path / "half", tmp_path / "out2", config(tiny_model, epochs=1.0)))
    assert made["lists"] == len(lists[::2])
    assert identical(weights(tmp_path / "out"), weights(tmp_path / "out2"))


def without(training_list: TrainingList, role: str) -> list[Candidate]:
    return [c._replace(role=IGNORED) if c.role == role else c for c in training_list.candidates]


def test_every_step_is_recorded(collection: Collection, mined: Path, tiny_model: Path, tmp_path: Path) -> None:
    manifest = tuned(collection, mined, tmp_path / "out", config(tiny_model, steps=10, evaluations=1))
    steps = lines(tmp_path / "out" / "steps.jsonl")
    assert [step["step"] for step in steps] == list(range(10)) == list(range(manifest["steps"]))
    assert [step["progress"] for step in steps] == [i / 10 for i in range(10)]
    assert sum(step["lists"] for step in steps) == manifest["lists"]
    assert sum(step["pairs"] for step in steps) == manifest["pairs"]
    for step in steps:
        assert step["loss"] == pytest.approx(step["terms"]["lce"])
        assert step["loss"] > 0
        assert step["counted"] == {"lce": step["lists"]}
        assert 0 < step["tokens"] - step["padding"] <= 512
    assert 0 <= manifest["padding"] <= 0.05 * manifest["tokens"]
    assert [line["step"] for line in lines(tmp_path / "out" / "dev.jsonl")] == [10]


def test_a_constant_score_is_compared_with_the_loss_without_matching(
    collection: Collection, lists: list[TrainingList], tiny_model: Path, tmp_path: Path
) -> None:
    settings = config(tiny_model, steps=3, student={"layers": 1, "match_hidden": 2.0})
    loop = Loop(texts(collection), lists, no_dev(collection), settings, seed=13, folder=tmp_path)
    loop.run()
    terms = [line["terms"] for line in lines(tmp_path / "steps.jsonl")]
    assert all(term["matching"] > 0 for term in terms)
    assert loop.watch.state()["windows"]["losses"] == pytest.approx([term["lce"] for term in terms])


def test_a_new_head_starts_near_chance(
    collection: Collection, lists: list[TrainingList], tiny_model: Path, tmp_path: Path
) -> None:
    """With seven negatives a list, knowing nothing costs log 8."""
    assert min(len(x.with_role(NEGATIVE)) for x in lists) >= 7
    Loop(texts(collection), lists, no_dev(collection), config(tiny_model, steps=2), seed=13, folder=tmp_path).run()
    assert lines(tmp_path / "steps.jsonl")[0]["loss"] == pytest.approx(torch.log(torch.tensor(8.0)).item(), abs=0.01)


def test_a_gradient_that_is_not_finite_ends_the_run(
    collection: Collection, lists: list[TrainingList], tiny_model: Path, tmp_path: Path
) -> None:
    loop = Loop(texts(collection), lists, no_dev(collection), config(tiny_model), seed=13, folder=tmp_path)
    with torch.no_grad():
        loop.weights.master.classifier.bias.fill_(float("nan"))
    with pytest.raises(UserError, match=r"not finite at step 0: lower train\.learning_rate \(0\.001\)"):
        loop.run()
    assert not (tmp_path / "reranker").exists()


def test_wandb_keeps_a_record_offline(
    collection: Collection,
    lists: list[TrainingList],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    settings = config(tiny_model, steps=3, tracker="wandb")
    Loop(texts(collection), lists, no_dev(collection), settings, seed=13, folder=tmp_path).run()
    (record,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 20  # another process writes it
    while b"gradient_norm" not in record.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert b"gradient_norm" in record.read_bytes()


def test_max_length_ends_where_the_model_does(
    collection: Collection, lists: list[TrainingList], tiny_model: Path, tmp_path: Path
) -> None:
    """The tiny model has 64 positions. A query of 200 tokens fills whatever is allowed."""
    collection = Collection.load(collection.folder)
    collection.queries = dict.fromkeys(collection.queries, "snow " * 200)
    settings = config(tiny_model, steps=2, max_length=256)
    Loop(texts(collection), lists, no_dev(collection), settings, seed=13, folder=tmp_path).run()
    assert json.loads((tmp_path / "reranker" / "score.json").read_text())["max_length"] == 64


def test_without_a_step_the_model_is_taken_as_it_is(collection: Collection, tiny_model: Path, tmp_path: Path) -> None:
    """Neither lists nor dev are read: there is no mined folder."""
    torch.manual_seed(5)
    given = Reranker.load(tiny_model, max_length=32, precision="fp32")
    given.calibration = Calibration("platt", 2.0, -1.0)
    given.save(tmp_path / "given")
    settings = config(tmp_path / "given", steps=0, precision="bf16")
    assert tuned(collection, tmp_path / "nowhere", tmp_path / "out", settings) == {"steps": 0}
    # The weights keep their precision, whatever training would compute in, and the calibration goes with them.
    assert identical(weights(tmp_path / "out"), load_file(tmp_path / "given" / "model.safetensors"))
    taken = Reranker.load(tmp_path / "out" / "reranker", precision="fp32")
    assert (taken.max_length, taken.calibration) == (32, given.calibration)
    pairs = [(query, document.content) for query in ("snow", "king") for document in list(collection.documents)[:9]]
    assert taken.score(pairs) == pytest.approx(given.score(pairs), abs=1e-6)
    assert not (tmp_path / "out" / "steps.jsonl").exists()


def test_a_model_without_a_head_is_not_taken_as_it_is(collection: Collection, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="random weights would order documents at random"):
        tuned(collection, tmp_path, tmp_path / "out", config(tiny_model, steps=0))
