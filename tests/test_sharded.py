"""Weights that are spread over processes: what does not go with them; how they train is in test_distributed.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from accelerate import Accelerator

from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.train.checkpoint import Checkpoints
from secondstage.train.model import start_model
from secondstage.train.sharded import ShardedWeights, fill, without_weights
from secondstage.train.weights import Weights, make_weights, refuse_other, spread_by
from secondstage.train.zero import PROCESSES, STAGE, ZeroWeights, compute_exactly, configured

from .children import launch


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


@pytest.mark.parametrize("version", [{}, {"FSDP_VERSION": "1"}])
def test_the_first_fsdp_is_refused(tiny_model: Path, version: dict[str, str]) -> None:
    """Which `accelerate launch --use_fsdp` takes, unless it is told otherwise."""
    team = {"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "2", "RANK": "0", **version}
    with pytest.raises(UserError, match=r"configured for FSDP 1, .* set fsdp_version: 2"):
        made(tiny_model, team)


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


def zero_of_two() -> Any:
    """The weights of one of two processes under the second stage, beside an engine that does nothing."""
    weights = ZeroWeights.__new__(ZeroWeights)
    weights.engine, weights.stage, weights.size, weights._factor = MagicMock(), 2, 2, 2
    return weights


def test_zero_scales_a_loss_by_the_processes_and_by_nothing_what_is_to_be_forgotten() -> None:
    weights, one = zero_of_two(), torch.ones(())
    assert weights.scaled(one) == 2
    with weights.forgetting():
        assert weights.scaled(one) == 0
    assert weights.scaled(one) == 2
    with pytest.raises(UserError, match="within"), weights.forgetting():
        raise UserError("within")
    assert weights.scaled(one) == 2


@pytest.mark.parametrize(("processes", "stage"), [(2, 2), (3, 2), (2, 3)])
def test_zero_reads_only_what_as_many_processes_wrote_under_the_same_stage(
    tmp_path: Path, processes: int, stage: int
) -> None:
    weights, checkpoints = zero_of_two(), Checkpoints(tmp_path, 1)
    checkpoints.write(7, {PROCESSES: processes, STAGE: stage}, {})
    if (processes, stage) == (weights.size, weights.stage):
        weights.load(checkpoints, 7)
        assert weights.engine.load_checkpoint.call_args.args == (str(checkpoints.place(7)),)
        return
    words = rf"by {processes} processes with DeepSpeed's ZeRO stage {stage}, and cannot be read by 2 with stage 2"
    with pytest.raises(UserError, match=words):
        weights.load(checkpoints, 7)
    weights.engine.load_checkpoint.assert_not_called()


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_what_accelerate_says_of_zero_is_heeded_where_it_spreads_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int
) -> None:
    zero = {"stage": stage, "overlap_comm": True, "reduce_bucket_size": "auto"}
    (tmp_path / "zero.json").write_text(json.dumps({"zero_optimization": zero}))
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(tmp_path / "zero.json"))
    if stage:
        assert configured() == {"stage": stage, "overlap_comm": True}
        return
    with pytest.raises(UserError, match="zero_stage=0: choose 1"):
        configured()


HALF = """
import sys
import torch
from accelerate import Accelerator
from secondstage.config import TrainConfig
from secondstage.parallel import wait
from secondstage.train.model import start_model
from secondstage.train.sharded import shard
wait()
network = start_model(TrainConfig(model=sys.argv[1], steps=1, precision="fp32")).model.eval()
seen = []
network.classifier.register_forward_hook(lambda module, inputs, output: seen.append(module.weight.dtype))
layer = network.base_model.encoder.layer[0]
layer.register_forward_hook(lambda module, inputs, output: seen.append(module.output.dense.weight.dtype))
shard(network, Accelerator(cpu=True), torch.bfloat16)
ids = torch.tensor([[2, 7, 3]])
print(list(seen), network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.dtype, seen)
"""


@pytest.mark.slow
def test_weights_spread_by_fsdp_compute_in_half_precision_but_for_the_logit(tiny_model: Path) -> None:
    for done in launch(HALF, 2, str(tiny_model)):
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "[] torch.float32 [torch.bfloat16, torch.float32]"


@pytest.mark.parametrize("bias", [False, True])
def test_under_zero_a_head_of_rounded_weights_computes_exactly(bias: bool) -> None:
    torch.manual_seed(1)
    head, hidden = torch.nn.Linear(64, 1, bias=bias).bfloat16(), torch.randn(5, 64, dtype=torch.bfloat16)
    expected = hidden.double() @ head.weight.double().T + (head.bias.double() if bias else 0)
    compute_exactly(head)
    found = head(hidden)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected, atol=1e-6)
