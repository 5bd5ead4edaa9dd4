"""Weights that are spread over processes: what does not go with them; how they train is in test_distributed.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.train.model import start_model
from secondstage.train.sharded import fill, without_weights
from secondstage.train.weights import Weights, make_weights


def made(tiny_model: Path, environment: dict[str, str], **settings: Any) -> Any:
    accelerator = Accelerator(cpu=True)  # before: it keeps what it finds in the environment, for all tests
    config = TrainConfig(model=str(tiny_model), steps=1, precision="fp32", **settings)
    network = start_model(config).model
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return make_weights(network, config, accelerator)


def test_a_moving_average_of_spread_weights_is_refused(tiny_model: Path) -> None:
    team = {"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "2", "RANK": "0"}
    with pytest.raises(UserError, match=r"train\.ema=0\.9 does not go with FSDP: leave it out"):
        made(tiny_model, team, ema=0.9)


def test_deepspeed_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UserError, match=r"DeepSpeed.*choose FSDP"):
        made(tiny_model, {"ACCELERATE_USE_DEEPSPEED": "true"})


def test_one_process_has_nobody_to_share_with(tiny_model: Path) -> None:
    assert isinstance(made(tiny_model, {"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "1", "RANK": "0"}), Weights)


def test_a_network_without_weights_takes_those_of_the_whole(tiny_model: Path) -> None:
    network = start_model(TrainConfig(model=str(tiny_model), steps=1)).model.eval()
    network.classifier.again = network.classifier.weight  # one weight at two places
    empty = without_weights(network)
    assert {p.device.type for p in empty.parameters()} == {"meta"}
    assert {p.device.type for p in network.parameters()} == {"cpu"}
    fill(empty, network.state_dict())
    assert empty.classifier.again is empty.classifier.weight
    features = {"input_ids": torch.tensor([[2, 7, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    with torch.no_grad():
        assert torch.equal(empty.eval()(**features).logits, network(**features).logits)
