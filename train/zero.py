"""Weights that DeepSpeed spreads over the processes (ZeRO: Rajbhandari et al. 2020, 1910.02054)."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor

from secondstage.compute import resolve
from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.files import writing
from secondstage.networks import exact_buffers, heads_of
from secondstage.parallel import gather, together, workers
from secondstage.progress import say

from .checkpoint import Checkpoints
from .optimizer import make_optimizer
from .sharded import fill, without_weights

# The folder of a checkpoint in which DeepSpeed writes.
TAG = "zero"
# What a checkpoint was written under, for nothing else can read it.
PROCESSES, STAGE = "processes", "stage"


class ZeroWeights:
    """What each process keeps a part of is what the stage says: the optimizer's state, gradients too, weights too.

    Accelerate's configuration of DeepSpeed is heeded in what it says of ZeRO: the stage, offloading, sizes of buckets.
    All else, as precision and clipping, secondstage says itself. In half precision training starts from weights that
    are rounded to it; what is learnt is in single precision.

    Attributes:
        working: the network that computes.
        whole: whether a process can compute alone, without gradients: with all stages but the third.
    """

    lockstep = True

    def __init__(self, network: Any, config: TrainConfig) -> None:
        """Hand a network to DeepSpeed.

        Raises:
            UserError: the configuration has no stage from 1 to 3, or DeepSpeed is too old or refuses it.
        """
        import deepspeed  # pyright: ignore[reportMissingImports]

        if not hasattr(deepspeed.DeepSpeedEngine, "managed_gradient_accumulation"):
            raise UserError(
                f"DeepSpeed {deepspeed.__version__} makes a step of every backward pass, and here a step has several: "
                "pip install --upgrade 'secondstage[deepspeed]'"
            )
        zero = configured()
        self.stage, self.whole = zero["stage"], zero["stage"] < 3
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        self.config, self.size = config, workers().size
        self._factor = self.size
        self._plain = without_weights(network)
        # In half precision DeepSpeed rounds them, too.
        self._frozen = {
            name: parameter.detach().to("cpu", torch.float32, copy=True)
            for name, parameter in network.named_parameters()
            if workers().lead and not parameter.requires_grad
        }
        settings = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            # As many backward passes as a step has parts.
            "managed_gradient_accumulation": False,
            "gradient_clipping": config.clip,
            "zero_optimization": zero,
            # Fused AdamW is as fast as DeepSpeed's, and is the optimizer of a training without it.
            "zero_force_ds_cpu_optimizer": False,
            "bf16": {"enabled": resolve(config.precision) == "bf16"},
            "data_types": {"grad_accum_dtype": "fp32"},
            "communication_data_type": "fp32",
            # Its timer waits for the device in every pass.
            "timers": {"throughput": {"enabled": False}},
        }
        optimizer = make_optimizer(network, config)
        buffers = exact_buffers(network)
        for head in heads_of(network):
            if isinstance(head, torch.nn.Linear):
                compute_exactly(head)
        try:
            self.engine: Any = deepspeed.initialize(model=network, optimizer=optimizer, config=settings)[0]
        except (AssertionError, ValueError) as error:
            raise UserError(
                f"DeepSpeed refuses what Accelerate's configuration says of ZeRO, {json.dumps(zero)}: {error}"
            ) from error
        for module, name, buffer in buffers:
            module._buffers[name] = buffer.to(module._buffers[name].device)
        self.working = Driven(self.engine)
        if workers().lead:
            say(f"  DeepSpeed spreads what is learnt over {self.size} processes (ZeRO stage {zero['stage']})")

    def backward(self, tensors: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Add to the gradients what follows from those of the outputs."""
        # Forward passes of other parts may have come in between: else what the part before left would count again.
        self.engine.optimizer.clear_backward_seen_flag()
        with together():
            torch.autograd.backward(tensors, gradients)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss as many times as there are processes: ZeRO takes the mean of their gradients, a step is the sum."""
        return loss * self._factor

    def pull_gradients(self) -> None:
        """Nothing: gradients are added up where they are learnt."""

    @contextlib.contextmanager
    def forgetting(self) -> Iterator[None]:
        """Nothing is learnt from the gradients that are made within.

        They are made of zeros: those that the processes have shared out already cannot be taken back.
        """
        self._factor = 0
        try:
            yield
        finally:
            self._factor = self.size

    def update(self, rate: float) -> float:
        """Make one step; see `Weights.update`."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rate * group["scale"]
        with together():
            self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def usable(self, norm: float) -> float:
        """The norm."""
        return norm

    @contextlib.contextmanager
    def kept(self) -> Iterator[Any]:
        """The whole network, in the main memory of the lead alone; that of other processes has no weights."""
        from deepspeed.utils import safe_get_full_fp32_param  # pyright: ignore[reportMissingImports]

        whole = dict(self._frozen)
        for name, parameter in self.engine.module.named_parameters():
            if parameter.requires_grad:
                with together():
                    weight = safe_get_full_fp32_param(parameter)
                if workers().lead:
                    whole[name] = weight.detach().to("cpu", torch.float32, copy=True)
        fill(self._plain, whole)
        yield self._plain
        fill(self._plain, {name: weight.to("meta") for name, weight in whole.items()})

    def save(self, checkpoints: Checkpoints, step: int, record: dict[str, Any]) -> None:
        """Write a checkpoint: each process writes its part."""
        lead, record = workers().lead, {**record, PROCESSES: self.size, STAGE: self.stage}
        with checkpoints.making(step, record) if lead else contextlib.nullcontext(checkpoints.folder) as folder:
            place = gather(folder)[0]
            with writing(place):
                self.engine.save_checkpoint(str(place), tag=TAG)

    def load(self, checkpoints: Checkpoints, step: int) -> None:
        """Go on from a checkpoint.

        Raises:
            UserError: another number of processes has written it, or another stage.
        """
        place, record = checkpoints.place(step), checkpoints.record(step)
        if (record[PROCESSES], record[STAGE]) != (self.size, self.stage):
            raise UserError(
                f"{place} was written by {record[PROCESSES]} processes with DeepSpeed's ZeRO stage {record[STAGE]}, "
                f"and cannot be read by {self.size} with stage {self.stage}: go on as before, or delete "
                f"{checkpoints.folder} to train from the start"
            )
        self.engine.load_checkpoint(str(place), tag=TAG)


def compute_exactly(head: Any) -> None:
    """Have a linear layer compute in single precision, whatever its weights are in: a bf16 logit has three digits."""

    def forward(self: Any, hidden: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.float()
        return torch.nn.functional.linear(hidden.float(), self.weight.float(), bias)

    head.forward = MethodType(forward, head)


class Driven:
    """A network whose passes DeepSpeed's engine must see."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __call__(self, **features: Any) -> Any:
        """As the network's."""
        return self._engine(**features)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine.module, name)


def configured() -> dict[str, Any]:
    """What Accelerate's configuration says of ZeRO; its `auto` means DeepSpeed's own defaults.

    Raises:
        UserError: it has no stage from 1 to 3.
    """
    from accelerate import DeepSpeedPlugin

    found: dict[str, Any] = DeepSpeedPlugin().deepspeed_config["zero_optimization"]
    zero = {key: value for key, value in found.items() if value != "auto"}
    if zero.get("stage") not in (1, 2, 3):
        raise UserError(
            f"Accelerate's configuration of DeepSpeed has zero_stage={zero.get('stage')}: choose 1 (the optimizer is "
            "spread), 2 (gradients, too) or 3 (weights, too), or start without DeepSpeed"
        )
    return zero
