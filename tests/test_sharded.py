"""Weights that are spread over processes: what does not go with them; how they train is in test_distributed.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from accelerate import Accelerator

from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.train.model import start_model
from secondstage.train.sharded import ShardedWeights, fill, without_weights
from secondstage.train.weights import Weights, make_weights, refuse_other, spread_by
from secondstage.train.zero import ZeroWeights


def made(tiny_model: Path, environment: dict[str, str], **settings: Any) -> Any:
    accelerator = Accelerator(cpu=True)  # before: it keeps what it finds in the environment, for all tests
    config = TrainConfig(model=str(tiny_model), steps=1, precision="fp32", **settings)
    network = start_model(config).model
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return make_weights(network, config, accelerator, spread_by(config))


@pytest.mark.parametrize("by", ["FSDP", "DeepSpeed"])
def test_a_moving_average_of_spread_weights_is_refused(
    tiny_model: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secondstage.train.weights.find_spec", lambda name: name)
    team = {f"ACCELERATE_USE_{by.upper()}": "true", "WORLD_SIZE": "2", "RANK": "0"}
    with pytest.raises(UserError, match=rf"train\.ema=0\.9 does not go with {by}: leave it out"):
        made(tiny_model, team, ema=0.9)


def test_deepspeed_that_is_not_installed_is_told(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secondstage.train.weights.find_spec", lambda name: None)
    team = {"ACCELERATE_USE_DEEPSPEED": "true", "WORLD_SIZE": "2", "RANK": "0"}
    with pytest.raises(UserError, match=r"not installed: pip install 'secondstage\[deepspeed\]', or choose FSDP"):
        made(tiny_model, team)


@pytest.mark.parametrize("by", ["FSDP", "DEEPSPEED"])
def test_one_process_has_nobody_to_share_with(tiny_model: Path, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secondstage.train.weights.find_spec", lambda name: name)
    assert isinstance(made(tiny_model, {f"ACCELERATE_USE_{by}": "true", "WORLD_SIZE": "1", "RANK": "0"}), Weights)


@pytest.mark.parametrize(
    ("wrote", "now", "words"),
    [
        ("FSDP", "", "with FSDP, and cannot be read without FSDP or DeepSpeed: go on with FSDP, or delete here to"),
        ("", "DeepSpeed", "without FSDP or DeepSpeed, and cannot be read with DeepSpeed: go on without"),
    ],
)
def test_a_checkpoint_of_weights_that_were_spread_otherwise_is_refused(wrote: str, now: str, words: str) -> None:
    with pytest.raises(UserError, match=f"^here/step-00000003 was written {words}"):
        refuse_other(Path("here/step-00000003"), wrote, now)
    refuse_other(Path("here/step-00000003"), now, now)


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


@pytest.mark.parametrize("weights", [ShardedWeights, ZeroWeights])
def test_memory_that_runs_out_is_no_failure_of_another_process(weights: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: RuntimeError) -> Any:
        def backward(*_: Any) -> None:
            raise error

        return backward

    spread = weights.__new__(weights)
    spread.engine = MagicMock()
    monkeypatch.setattr(torch.autograd, "backward", fail(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError, match=r"^CUDA out of memory"):
        spread.backward([], [])
    monkeypatch.setattr(torch.autograd, "backward", fail(RuntimeError("connection closed")))
    with pytest.raises(UserError, match="another process of this run has failed, see its output: connection closed"):
        spread.backward([], [])
