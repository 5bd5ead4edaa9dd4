"""Training on several processes: the same steps as on one, whether all weights are everywhere or spread."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from secondstage.collection import Collection
from secondstage.config import Bm25Config, MineConfig, TrainConfig
from secondstage.firststage.bm25 import Bm25
from secondstage.lists import TrainingList, read_lists, write_lists
from secondstage.mine import Source, mine
from secondstage.train import Task, share

from .children import Blow, Round, play
from .families import save_family

CONFIGS = Path(__file__).parents[1] / "configs"
WANTED = "DeepSpeed is not installed: pip install 'secondstage[deepspeed]'"
SHARDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
# One list a step, so that most processes have none; lists that a part of the losses cannot use; parts of a step whose
# activations are computed again.
CASES: dict[str, dict[str, Any]] = {
    "usual": {},
    "one list": {"batch_tokens": 64},
    "distillation": {"loss": {"lce": 1, "kl": 0.5, "margin_mse": {"weight": 0.2, "pairs": "positive_negative"}}},
    "cached": {"memory_tokens": 64, "freeze_embeddings": True},
}


@pytest.fixture(scope="module")
def mined(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every second list has a teacher's scores; of these every third one has no relevant document."""
    folder = tmp_path_factory.mktemp("mined")
    bm25 = Bm25.build(Bm25Config(), collection.documents)
    mine(Source(collection, bm25, "bm25", MineConfig(), 13, folder.parent), folder, dev_depth=10)
    found = list(read_lists(folder / "train"))
    shutil.rmtree(folder / "train")
    write_lists(folder / "train", [changed(number, each) for number, each in enumerate(found)])
    return folder


def changed(number: int, found: TrainingList) -> TrainingList:
    kept = [c for c in found.candidates if c.role != "positive" or number % 6 != 3]
    taught = number % 2
    return TrainingList(
        found.query_id,
        tuple(c._replace(teacher_score=0.3 * i if taught else None) for i, c in enumerate(kept)),
    )


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose scores differ from the start, so that there is much to learn."""
    return save_family("bert", tmp_path_factory.mktemp("bert"), tiny_model, head="classification")


def settings(model: Path, **more: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"model": str(model), "max_length": 32, "batch_tokens": 400, "precision": "fp32"}
    return usual | {"steps": 8, "evaluations": 2, "learning_rate": 1e-3} | more


def jobs(collection: Collection, mined: Path, model: Path, folder: Path) -> list[dict[str, Any]]:
    places = {"collection": str(collection.folder), "mined": str(mined)}
    return [places | {"work": str(folder / name), "settings": settings(model, **more)} for name, more in CASES.items()]


@pytest.fixture(scope="module")
def alone(collection: Collection, mined: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each case, trained by one process."""
    folder = tmp_path_factory.mktemp("alone")
    for job in jobs(collection, mined, model, folder):
        share(Task(collection, mined, TrainConfig(**job["settings"]), 13), Path(job["work"]))
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_close(one: Path, other: Path, tolerance: float) -> None:
    """The same steps, but for rounding; dev values are those of orders, which such small differences leave alone."""
    padding = {"tokens", "padding"}  # of parts for several processes
    losses = [line["loss"] for line in lines(one / "steps.jsonl")]
    assert max(losses) - min(losses) > 0.01
    for first, second in zip(lines(one / "steps.jsonl"), lines(other / "steps.jsonl"), strict=True):
        for name in first.keys() - padding:
            assert second[name] == pytest.approx(first[name], rel=tolerance, abs=tolerance), name
    assert lines(one / "dev.jsonl") == lines(other / "dev.jsonl")
    weights, others = (load_file(folder / "reranker" / "model.safetensors") for folder in (one, other))
    assert weights.keys() == others.keys()
    # No loss of these lists sees what is added to all scores, and no softmax what is added to all keys: the gradients
    # of these are rounding, and Adam makes whole steps of them.
    for name in (name for name in weights if not name.endswith(("classifier.bias", "key.bias"))):
        tensor = weights[name]
        torch.testing.assert_close(others[name], tensor, rtol=0, atol=1e-4, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_any_number_of_processes_makes_the_same_steps(
    collection: Collection, mined: Path, model: Path, tmp_path: Path, alone: Path, size: int
) -> None:
    (ended,) = play([Round(size, jobs(collection, mined, model, tmp_path))], tmp_path / "children")
    assert [one.code for one in ended] == [0] * size, ended[0].output
    for name in CASES:
        assert_close(alone / name, tmp_path / name, 1e-5)
        ends = [torch.load(tmp_path / name / f"end-{rank}.pt", weights_only=True)["weights"] for rank in range(size)]
        for end in ends[1:]:
            assert all(torch.equal(tensor, end[key]) for key, tensor in ends[0].items())


@pytest.mark.slow
def test_spread_weights_make_the_same_steps(
    collection: Collection, mined: Path, model: Path, tmp_path: Path, alone: Path
) -> None:
    """Also of decoders, whose heads share their embeddings or not. A killed training goes on, on more processes."""
    plan = jobs(collection, mined, model, tmp_path)
    decoders = {"tied": True, "untied": False}
    for name, tied in decoders.items():
        decoder = save_family("qwen3", tmp_path / f"qwen3 {name}", model, head="tokens", tie_word_embeddings=tied)
        asked = settings(decoder, head="yes_no", max_length=300, batch_tokens=3000, steps=3)
        share(Task(collection, mined, TrainConfig(**asked), 13), tmp_path / "alone" / name)
        plan.append(plan[0] | {"work": str(tmp_path / name), "settings": asked})
    first: dict[str, Any] = plan[0] | {"work": str(tmp_path / "killed")}
    first["settings"] = {**first["settings"], "checkpoint_steps": 3}
    rounds = [
        Round(2, plan, environment=SHARDED),
        Round(2, [first], [Blow(1, 5)], SHARDED),
        Round(3, [first], environment=SHARDED),
    ]
    whole, killed, last = play(rounds, tmp_path / "children")
    assert [one.code for one in whole + last] == [0] * 5, whole[0].output + whole[1].output + last[0].output
    assert killed[1].code == -9
    assert killed[0].code == 1
    for name in CASES:
        assert_close(alone / name, tmp_path / name, 1e-4)
    for name in decoders:
        assert_close(tmp_path / "alone" / name, tmp_path / name, 1e-4)
    assert_close(alone / "usual", tmp_path / "killed", 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeed_makes_the_same_steps(
    collection: Collection, mined: Path, model: Path, tmp_path: Path, alone: Path, stage: int
) -> None:
    """And a training that was killed goes on to the same bits, on as many processes and no others."""
    pytest.importorskip("deepspeed", reason=WANTED)
    # By default weights as small as these are not spread.
    zero = {"stage": stage, "stage3_param_persistence_threshold": 0, "reduce_bucket_size": "auto"}
    (tmp_path / "zero.json").write_text(json.dumps({"zero_optimization": zero}))
    asked = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(tmp_path / "zero.json")}
    plan = jobs(collection, mined, model, tmp_path)
    first: dict[str, Any] = plan[0] | {"work": str(tmp_path / "killed")}
    first["settings"] = {**first["settings"], "checkpoint_steps": 3}
    decoder = save_family("qwen3", tmp_path / "qwen3", model, head="tokens", tie_word_embeddings=True)
    further = {
        "decoder": settings(decoder, head="yes_no", max_length=300, batch_tokens=3000, steps=3),
        "lora": settings(model, lora={"rank": 4}),
    }
    for name, chosen in further.items():
        share(Task(collection, mined, TrainConfig(**chosen), 13), tmp_path / "alone" / name)
        plan.append(plan[0] | {"work": str(tmp_path / name), "settings": chosen})
    half = settings(model, precision="bf16", freeze_embeddings=True)
    plan.append(plan[0] | {"work": str(tmp_path / "half"), "settings": half})
    rounds = [
        Round(2, plan, environment=asked),
        Round(2, [first], [Blow(1, 5)]),
        Round(3, [first]),
        Round(2, [first]),
    ]
    whole, killed, more, last = play(rounds, tmp_path / "children")
    assert [one.code for one in whole + last] == [0] * 4, whole[0].output + last[0].output
    assert f"over 2 processes (ZeRO stage {stage})" in whole[0].output
    assert killed[1].code == -9
    assert f"2 processes with DeepSpeed's ZeRO stage {stage}, and cannot be read by 3 with stage" in more[0].output
    for name in CASES:
        assert_close(alone / name, tmp_path / name, 1e-4)
    for name in further:
        assert_close(tmp_path / "alone" / name, tmp_path / name, 1e-4)
    start, rounded = load_file(model / "model.safetensors"), load_file(tmp_path / "half/reranker/model.safetensors")
    words = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(rounded[words], start[words])  # what is frozen is not
    losses = [[line["loss"] for line in lines(place / "usual" / "steps.jsonl")] for place in (alone, tmp_path)]
    losses.append([line["loss"] for line in lines(tmp_path / "half" / "steps.jsonl")])
    assert losses[2] == pytest.approx(losses[0], abs=0.02)
    one, other = (load_file(tmp_path / name / "reranker" / "model.safetensors") for name in ("usual", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def project(folder: Path, beir_folder: Path, model: Path) -> Path:
    """The configuration of a whole run."""
    config = {
        "output": str(folder / "out"),
        "collection": str(beir_folder),
        "first_stage": {"kind": "bm25"},
        "train": settings(model, steps=8),
        "serve": {"depth": 20, "max_depth": 20, "precision": "fp32"},
        "evaluate": {"resamples": 200, "latency_queries": 2, "depth_queries": 5},
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    return folder / "config.yaml"


@pytest.mark.slow
def test_a_whole_run_on_two_processes_that_is_asked_to_stop(beir_folder: Path, model: Path, tmp_path: Path) -> None:
    """One of them is; both stop. Settings that change nothing of what is learnt may change meanwhile."""
    words = str(project(tmp_path, beir_folder, model))
    rounds = [
        Round(1, [["run", words, f"output={tmp_path / 'one'}"]]),
        Round(2, [["train", words]], [Blow(1, 5, "TERM")]),
        Round(2, [["run", words, "train.checkpoint_minutes=9"]]),
    ]
    (alone,), stopped, last = play(rounds, tmp_path / "children")
    assert [ended.code for ended in [alone, *last]] == [0, 0, 0], alone.output + last[0].output
    assert [ended.code for ended in stopped] == [4, 4], stopped[0].output
    assert "secondstage: stopped after 6 steps: run the same command again to go on" in stopped[0].output
    assert "going on after 6 steps" in last[0].output
    assert_close(tmp_path / "one" / "train", tmp_path / "out" / "train", 1e-5)
    assert not (tmp_path / "out" / "checkpoints").exists()
    one, other = (json.loads((tmp_path / name / "evaluation" / "metrics.json").read_text()) for name in ("one", "out"))
    curves = [found["development"]["fusion"]["curve"] for found in (one, other)]
    assert curves[1] == pytest.approx(curves[0])
    systems = one["test_sets"]["test"]["systems"]
    for name, found in other["test_sets"]["test"]["systems"].items():
        assert found["measures"] == pytest.approx(systems[name]["measures"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fsdp", "weights are spread over 2 processes"),
        ("deepspeed", "DeepSpeed spreads what is learnt over 2 processes (ZeRO stage 2)"),
    ],
)
def test_accelerate_spreads_weights_as_its_configuration_says(
    beir_folder: Path, model: Path, tmp_path: Path, name: str, said: str
) -> None:
    if name == "deepspeed":
        pytest.importorskip("deepspeed", reason=WANTED)
    words = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", f"{CONFIGS}/accelerate/{name}.yaml"]
    words += ["-m", "secondstage", "train", str(project(tmp_path, beir_folder, model)), "train.steps=2"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
    assert len(lines(tmp_path / "out" / "train" / "steps.jsonl")) == 2
