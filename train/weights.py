"""What computes and what is learnt: a working copy in half precision beside the weights in single precision."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from secondstage.compute import device, resolve
from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.networks import at_precision
from secondstage.parallel import together, workers

from .averaging import Average
from .checkpoint import Checkpoints
from .optimizer import make_optimizer
from .sharded import ShardedWeights
from .zero import ZeroWeights

# Numbers that are summed over the processes at a time.
BUCKET = 1 << 25
FSDP, DEEPSPEED = "FSDP", "DeepSpeed"


class Weights:
    """All weights in every process. Computes in half precision, learns in single precision.

    Forward and backward pass run on a working copy; its gradients are added up in the master weights, which the
    optimizer updates, and copied back (Micikevicius et al. 2018). On a CPU this is faster than autocast (a tenth to a
    third, bench/step.py), which casts every activation between the two. In single precision both are the same object.

    Processes sum their gradients once an update, in single precision: however a step was cut, it stays the same step.

    Attributes:
        master: the weights that are learnt and saved.
        working: the model that computes.
    """

    # Whether all processes must make the same passes at the same time: with gradients, and without.
    lockstep = False
    whole = True

    def __init__(self, network: Any, config: TrainConfig, accelerator: Accelerator) -> None:
        precision = resolve(config.precision)
        self.config, self.accelerator = config, accelerator
        self.master = network
        self.working = network if precision == "fp32" else at_precision(copy.deepcopy(network), precision)
        pairs = zip(self.master.named_parameters(), self.working.parameters(), strict=True)
        self._learnt = {name: (master, working) for (name, master), working in pairs if master.requires_grad}
        self.optimizer = make_optimizer(network, config)
        self.scaler = torch.amp.GradScaler(device().partition(":")[0], enabled=precision == "fp16")
        # A process may have no part of the first step: it must know the scale all the same.
        self.scaler.scale(torch.zeros((), device=device()))
        self.average = Average(config.ema, self._masters) if config.ema else None

    @property
    def _masters(self) -> list[Tensor]:
        return [master for master, _ in self._learnt.values()]

    def backward(self, tensors: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Add to the gradients of the working copy what follows from those of its outputs."""
        torch.autograd.backward(tensors, gradients)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss as large as half precision wants it; `update` undoes that."""
        return self.scaler.scale(loss)

    def pull_gradients(self) -> None:
        """Add the working copy's gradients to those of the master weights: many small ones would get lost in bf16."""
        for master, working in self._learnt.values():
            if master is working or working.grad is None:
                continue
            found = working.grad.to(master.dtype)
            master.grad = found if master.grad is None else master.grad.add_(found)
            working.grad = None

    @contextlib.contextmanager
    def forgetting(self) -> Iterator[None]:
        """Nothing is learnt from the gradients that are made within."""
        yield
        self.optimizer.zero_grad()

    def update(self, rate: float) -> float:
        """Make one step with what `pull_gradients` gathered in all processes.

        Args:
            rate: the share of the learning rate, from 0 to 1.

        Returns:
            The norm of the gradient before it was clipped. Where it is not finite nothing is learnt.
        """
        self._sum_over_processes()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._masters, self.config.clip).item()
        if not isfinite(norm) and not self.scaler.is_enabled():
            self.optimizer.zero_grad()
            return norm
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rate * group["scale"]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.push_weights()
        if self.average and isfinite(norm):  # else loss scaling skipped the step
            self.average.update(self._masters)
        return norm

    @torch.no_grad()
    def push_weights(self) -> None:
        """Copy the master weights to the working copy."""
        for master, working in self._learnt.values():
            if master is not working:
                working.copy_(master)

    @contextlib.contextmanager
    def kept(self) -> Iterator[Any]:
        """The weights that are evaluated and written, the moving average if there is one, in master and working copy.

        Gives the master.
        """
        if self.average is None:
            yield self.master
            return
        self.average.swap(self._masters)
        self.push_weights()
        try:
            yield self.master
        finally:
            self.average.swap(self._masters)
            self.push_weights()

    def usable(self, norm: float) -> float | None:
        """The norm, or none where loss scaling skipped a step whose gradient was not finite: it will find its scale."""
        return None if self.scaler.is_enabled() and not isfinite(norm) else norm

    def save(self, checkpoints: Checkpoints, step: int, record: dict[str, Any]) -> None:
        """Write a checkpoint: one process does, as all have the same."""
        if self.accelerator.is_main_process:
            checkpoints.write(step, record, self.state())

    def load(self, checkpoints: Checkpoints, step: int) -> None:
        """Go on from a checkpoint."""
        self.restore(checkpoints.tensors(step))

    def state(self) -> dict[str, Any]:
        """All that the next steps depend on."""
        return {
            "weights": {name: master.detach() for name, (master, _) in self._learnt.items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state() if self.average else None,
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        for name, (master, _) in self._learnt.items():
            master.copy_(state["weights"][name])
        self.push_weights()
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.restore(state["average"])

    def _sum_over_processes(self) -> None:
        """Sum the gradients; a weight that no process has a gradient of stays without."""
        if self.accelerator.num_processes == 1:
            return
        masters = self._masters
        has: Any = torch.tensor([float(master.grad is not None) for master in masters], device=masters[0].device)
        with together():
            has = self.accelerator.reduce(has, "sum")
        learnt = [master for master, count in zip(masters, has.tolist(), strict=True) if count]
        for bucket in buckets(learnt, BUCKET):
            flat = torch.cat([(torch.zeros_like(m) if m.grad is None else m.grad).flatten() for m in bucket])
            with together():
                summed: Any = self.accelerator.reduce(flat, "sum")
            for master, part in zip(bucket, summed.split([m.numel() for m in bucket]), strict=True):
                master.grad = part.view_as(master)


def make_weights(network: Any, config: TrainConfig, accelerator: Accelerator, by: str = "") -> Any:
    """The weights of a training, spread as `spread_by` says: `Weights`, `ShardedWeights` or `ZeroWeights`."""
    if by == FSDP:
        return ShardedWeights(network, config, accelerator)
    return ZeroWeights(network, config) if by == DEEPSPEED else Weights(network, config, accelerator)


def spread_by(config: TrainConfig) -> str:
    """What spreads the weights over the processes, by Accelerate's configuration; empty if all processes have all.

    One process has nobody to share with.

    Raises:
        UserError: DeepSpeed is not installed, FSDP is of the first version, or settings do not go with spread weights.
    """
    # Accelerate itself heeds FSDP on accelerators alone.
    asked = [
        name for name in (FSDP, DEEPSPEED) if os.environ.get(f"ACCELERATE_USE_{name.upper()}", "").lower() == "true"
    ]
    if DEEPSPEED in asked and find_spec("deepspeed") is None:
        raise UserError(
            "Accelerate is configured for DeepSpeed, which is not installed: pip install 'secondstage[deepspeed]', or "
            "choose FSDP in `accelerate config`, which does what its stage 3 does"
        )
    if not asked or workers().size == 1:
        return ""
    by, precision = asked[-1], resolve(config.precision)
    if config.ema or precision == "fp16":
        key, value = ("ema", config.ema) if config.ema else ("precision", precision)
        raise UserError(
            f"train.{key}={value} does not go with {by}: leave it out, or start without {by}, by which every process "
            "keeps all weights"
        )
    if by == FSDP and (version := os.environ.get("FSDP_VERSION", "1")) != "2":
        raise UserError(
            f"Accelerate is configured for FSDP {version}, and weights are spread by FSDP 2: set fsdp_version: 2 below "
            "fsdp_config, as in configs/accelerate/fsdp.yaml, or start with --fsdp_version 2"
        )
    return by


def refuse_other(checkpoint: Path, wrote: str, now: str) -> None:
    """Refuse a checkpoint whose weights were spread by something else.

    Raises:
        UserError: they were.
    """
    if wrote != now:
        how = {by: f"with {by}" if by else "without FSDP or DeepSpeed" for by in (wrote, now)}
        raise UserError(
            f"{checkpoint} was written {how[wrote]}, and cannot be read {how[now]}: go on {how[wrote]}, or delete "
            f"{checkpoint.parent} to train from the start"
        )


def buckets(tensors: Sequence[Tensor], size: int) -> Iterator[list[Tensor]]:
    """Tensors in groups of at most `size` numbers, in their order; a larger one is a group of its own."""
    group: list[Tensor] = []
    for tensor in tensors:
        if group and sum(map(Tensor.numel, group)) + tensor.numel() > size:
            yield group
            group = []
        group.append(tensor)
    if group:
        yield group
