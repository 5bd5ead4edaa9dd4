"""Adapters: what they change, and that what is written needs none."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.networks import heads_of, merged
from secondstage.pairmodel import PairModel
from secondstage.rerankers import load_reranker
from secondstage.train.layers import depths
from secondstage.train.model import start_model
from secondstage.train.weights import make_weights

from .families import FAMILIES, LENGTH, PAIRS, save_family


def start(folder: Path, *, head: str = "classification", **settings: Any) -> PairModel:
    torch.manual_seed(4)
    settings = {"lora": {"rank": 4}, "max_length": LENGTH if head == "classification" else 330, **settings}
    return start_model(TrainConfig.from_json({"model": str(folder), "steps": 1, "head": head, **settings}))


def train(scorer: PairModel, steps: int = 3) -> set[str]:
    """A few steps; the parameters that they changed."""
    before = {name: parameter.clone() for name, parameter in scorer.model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in scorer.model.parameters() if p.requires_grad], lr=0.05)
    scorer.model.train()
    rows = scorer.tokenize(PAIRS)
    for _ in range(steps):
        optimizer.zero_grad()
        scores = scorer.logits(scorer.collate(rows, range(len(PAIRS))))
        torch.autograd.backward(torch.nn.functional.mse_loss(scores, torch.arange(5.0)))
        torch.nn.utils.clip_grad_norm_(scorer.model.parameters(), 1.0)
        optimizer.step()
    scorer.model.eval()
    return {name for name, parameter in scorer.model.named_parameters() if not torch.equal(parameter, before[name])}


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_and_head_are_tuned_and_merged_into_a_plain_folder(
    family: str, tiny_model: Path, tmp_path: Path
) -> None:
    folder = save_family(family, tmp_path / "base", tiny_model)
    scorer, plain = start(folder), start(folder, lora=None)
    assert scorer.score(PAIRS).tolist() == pytest.approx(plain.score(PAIRS).tolist(), abs=1e-6)
    deep = depths(scorer.model)
    changed = train(scorer)
    tuned = {name for name, parameter in scorer.model.named_parameters() if parameter.requires_grad}
    assert tuned == {name for name, depth in deep.items() if "lora_" in name or depth == 3}
    assert changed <= tuned
    assert any("lora_B" in name for name in changed)
    assert any(p is heads_of(scorer.model)[0].weight for n, p in scorer.model.named_parameters() if n in changed)
    scores = scorer.score(PAIRS)
    scorer.save(tmp_path / "saved")
    assert scorer.score(PAIRS).tolist() == scores.tolist()  # the one in memory keeps its adapters
    again = load_reranker(tmp_path / "saved", precision="fp32")
    assert again.score(PAIRS).tolist() == pytest.approx(scores.tolist(), abs=1e-5)
    assert {name for name, _ in again.model.named_parameters()} == {name for name, _ in plain.model.named_parameters()}
    assert "lora" not in (tmp_path / "saved" / "config.json").read_text().lower()
    assert not list((tmp_path / "saved").glob("adapter*"))


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_adapters_of_a_yes_no_decoder(family: str, tiny_model: Path, tmp_path: Path) -> None:
    """The two rows are tuned where they are rows of their own, and not where they are the embeddings."""
    folder = save_family(family, tmp_path / "base", tiny_model, head="tokens")
    scorer = start(folder, head="yes_no")
    changed = train(scorer)
    assert all("lora_" in name or name in ("model.norm.weight", "lm_head.weight") for name in changed)
    assert ("lm_head.weight" in changed) == (family == "llama")
    scorer.save(tmp_path / "saved")
    again = load_reranker(tmp_path / "saved", precision="fp32")
    assert again.score(PAIRS).tolist() == pytest.approx(scorer.score(PAIRS).tolist(), abs=1e-4)


def test_all_linear_layers_get_an_adapter_but_those_that_are_frozen(tiny_model: Path) -> None:
    def adapted(scorer: PairModel) -> set[str]:
        return {n.partition(".lora_A")[0] for n, _ in scorer.model.named_parameters() if ".lora_A" in n}

    linear = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
              "intermediate.dense", "output.dense")  # fmt: skip
    every = {f"bert.encoder.layer.{i}.{name}" for i in (0, 1) for name in linear}
    assert adapted(start(tiny_model)) == every
    frozen = start(tiny_model, freeze_layers=1)
    assert adapted(frozen) == {name for name in every if ".1." in name}
    some = start(tiny_model, lora={"rank": 1, "targets": ["query", "output.dense"]})
    assert adapted(some) == {name for name in every if name.endswith((".query", "output.dense"))}


def test_the_scale_is_alpha_over_rank(tiny_model: Path) -> None:
    scorer = start(tiny_model, lora={"rank": 2, "alpha": 6, "targets": ["query"]})
    layer = scorer.model.bert.encoder.layer[1].attention.self.query
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_(generator=generator)
    expected = layer.base_layer.weight + 6 / 2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    plain = merged(scorer.model).bert.encoder.layer[1].attention.self.query
    assert type(plain) is torch.nn.Linear
    assert torch.allclose(plain.weight, expected, atol=1e-6)
    network = start(tiny_model, lora=None).model
    assert merged(network) is network


def test_a_working_copy_in_half_precision_has_the_adapters_too(tiny_model: Path) -> None:
    scorer = start(tiny_model, lora={"rank": 1})
    train(scorer)
    config = TrainConfig(model="none", steps=1, precision="bf16")
    weights = make_weights(scorer.model, config, Accelerator(cpu=True))
    half = scorer.with_model(weights.working)
    assert half.score(PAIRS).tolist() == pytest.approx(scorer.score(PAIRS).tolist(), abs=0.1)
    assert weights.working.classifier.weight.dtype == torch.float32
    rows = half.tokenize(PAIRS)
    half.logits(half.collate(rows, range(len(PAIRS)))).sum().backward()
    weights.pull_gradients()
    for name, parameter in weights.master.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_a_layer_that_is_not_there_is_named(tiny_model: Path) -> None:
    with pytest.raises(UserError, match=r"no linear layer is named q_proj; there are .*attention\.self\.query"):
        start(tiny_model, lora={"targets": ["q_proj", "query"]})
    with pytest.raises(UserError, match="all layers are frozen"):
        start(tiny_model, freeze_layers=2)


def test_without_peft_the_way_out_is_told(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **settings: Any) -> Any:
        if name.partition(".")[0] == "peft":
            raise ImportError(name)
        return original(name, *args, **settings)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'secondstage\[lora\]'"):
        start(tiny_model)


def test_a_run_is_the_same_with_the_same_seed(tiny_model: Path) -> None:
    one, other = (start(tiny_model).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
