"""Which parameter learns at which rate, and decays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from secondstage.config import TrainConfig
from secondstage.train.optimizer import make_optimizer, parameter_groups

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "electra": {"embedding_size": 8},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p"]},
    "xlm-roberta": {},
    "modernbert": {},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
}


def network(family: str) -> Any:
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    config = AutoConfig.for_model(family, num_labels=1, **SIZES, **tokens, **FAMILIES[family])
    factory: Any = AutoModelForSequenceClassification
    return factory.from_config(config)


def settings(**changes: Any) -> TrainConfig:
    return TrainConfig(steps=1, **changes)


def scales(model: nn.Module, groups: list[dict[str, Any]]) -> dict[str, float]:
    """The scale of every parameter by its name; fails if one is there twice."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [(names[id(parameter)], group["scale"]) for group in groups for parameter in group["params"]]
    assert len(found) == len(dict(found))
    return dict(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_layer_learns_slower_than_the_one_above_it(family: str) -> None:
    model = network(family)
    found = scales(model, parameter_groups(model, settings(layer_decay=0.5)))
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, scale in found.items():
        if "layer." in name or "layers." in name:
            number = int(name.partition("layer.")[2][:1] or name.partition("layers.")[2][:1])
            assert scale == 0.5 ** (2 - number), name
        elif "embed" in name:
            assert scale == 0.5**3, name
        elif name.startswith(("classifier", "score", "head")) or "norm" in name or "pooler" in name:
            assert scale == 1, name
        else:
            assert name == "deberta.encoder.LayerNorm.weight" or name == "deberta.encoder.LayerNorm.bias", name
    assert set(found.values()) == {1, 0.5, 0.25, 0.125}


def test_biases_and_normalisation_do_not_decay() -> None:
    model = network("bert")
    decaying, others = parameter_groups(model, settings(weight_decay=0.3))
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.3, 0)
    assert (decaying["scale"], others["scale"]) == (1, 1)
    assert {parameter.ndim for parameter in decaying["params"]} == {2}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all("bias" in names[id(p)] or "LayerNorm" in names[id(p)] for p in others["params"])
    assert len(decaying["params"]) + len(others["params"]) == len(names)


def test_what_is_frozen_is_left_out() -> None:
    model = network("bert")
    model.bert.requires_grad_(False)
    found = scales(model, parameter_groups(model, settings(layer_decay=0.5)))
    assert found == {"classifier.weight": 1, "classifier.bias": 1}


def test_without_a_decay_no_layers_are_needed() -> None:
    model = nn.ModuleDict({"first": nn.Linear(2, 2), "last": nn.Linear(2, 1)})
    assert set(scales(model, parameter_groups(model, settings(layer_decay=1.0))).values()) == {1}


def test_a_step_moves_each_parameter_by_its_own_rate() -> None:
    """The first step of Adam is the learning rate times the sign of the gradient."""
    model = network("bert")
    optimizer = make_optimizer(model, settings(layer_decay=0.5, weight_decay=0.0))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        group["lr"] = 0.01 * group["scale"]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, scale in scales(model, optimizer.param_groups).items():
        moved = before[name] - model.get_parameter(name).detach()
        assert torch.allclose(moved, torch.full_like(moved, 0.01 * scale), atol=1e-6), name
