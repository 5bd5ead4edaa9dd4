"""Weights, gradients and optimizer that are spread over the processes (FSDP: Zhao et al. 2023, 2304.11277)."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from torch import Tensor, nn

from secondstage.compute import device, resolve, torch_dtype
from secondstage.config import TrainConfig
from secondstage.files import writing
from secondstage.networks import heads_of
from secondstage.parallel import gather, together, workers
from secondstage.progress import say

from .checkpoint import Checkpoints
from .layers import layers_of
from .optimizer import make_optimizer


class ShardedWeights:
    """Each process keeps a part of every weight, of its gradient and of what the optimizer knows of it.

    The whole of a layer is there only while it computes, in half precision if so configured; what is learnt, and the
    sum of gradients, is in single precision. Accelerate's configuration of FSDP is heeded in what it says of resharding
    and offloading.

    A process that computes needs the parts of all others at the same time: all make the same passes.

    Attributes:
        working: the network that computes.
    """

    lockstep = True
    whole = False

    def __init__(self, network: Any, config: TrainConfig, accelerator: Accelerator) -> None:
        """Spread a network, in place."""
        self.config, self.accelerator, self.size = config, accelerator, workers().size
        precision = resolve(config.precision)
        self._plain = without_weights(network)
        self.working = network
        shard(network, accelerator, torch_dtype(precision))
        self.optimizer = make_optimizer(network, config)
        if workers().lead:
            say(f"  weights are spread over {self.size} processes")

    @property
    def _learnt(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.working.parameters() if parameter.requires_grad]

    def backward(self, tensors: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Add to the gradients what follows from those of the outputs."""
        with together():
            torch.autograd.backward(tensors, gradients)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss as many times as there are processes: FSDP takes the mean of their gradients, a step is the sum."""
        return loss * self.size

    def pull_gradients(self) -> None:
        """Nothing: gradients are added up where they are learnt."""

    @contextlib.contextmanager
    def forgetting(self) -> Iterator[None]:
        """Nothing is learnt from the gradients that are made within."""
        yield
        self.optimizer.zero_grad()

    def update(self, rate: float) -> float:
        """Make one step; see `Weights.update`."""
        with together():
            norm: Any = torch.nn.utils.clip_grad_norm_(self._learnt, self.config.clip)
            norm = norm.full_tensor().item()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rate * group["scale"]
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(norm)

    def usable(self, norm: float) -> float:
        """The norm."""
        return norm

    @contextlib.contextmanager
    def kept(self) -> Iterator[Any]:
        """The whole network, in the main memory of the lead alone; that of other processes has no weights."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        with together():
            options = StateDictOptions(full_state_dict=True, cpu_offload=True)
            whole: dict[str, Any] = get_model_state_dict(self.working, options=options)
        if workers().lead:
            fill(self._plain, whole)
        yield self._plain
        fill(self._plain, {name: weight.to("meta") for name, weight in whole.items()})

    def save(self, checkpoints: Checkpoints, step: int, record: dict[str, Any]) -> None:
        """Write a checkpoint: each process writes its part."""
        from torch.distributed.checkpoint.state_dict_saver import save

        lead = workers().lead
        with checkpoints.making(step, record) if lead else contextlib.nullcontext(checkpoints.folder) as folder:
            place = gather(folder)[0]
            with writing(place):
                save(self._state(), checkpoint_id=place)

    def load(self, checkpoints: Checkpoints, step: int) -> None:
        """Go on from a checkpoint, which any number of processes has written."""
        from torch.distributed.checkpoint.state_dict import set_state_dict
        from torch.distributed.checkpoint.state_dict_loader import load

        state = self._state()
        load(state, checkpoint_id=checkpoints.place(step))
        set_state_dict(
            self.working, self.optimizer, model_state_dict=state["weights"], optim_state_dict=state["optimizer"]
        )

    def _state(self) -> dict[str, Any]:
        from torch.distributed.checkpoint.state_dict import get_state_dict

        weights, optimizer = get_state_dict(self.working, self.optimizer)
        return {"weights": weights, "optimizer": optimizer}


def shard(network: Any, accelerator: Accelerator, dtype: torch.dtype) -> None:
    """Spread a network over the processes, in place, a layer at a time; computed is in `dtype`."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    plugin = getattr(accelerator.state, "fsdp_plugin", None) or FullyShardedDataParallelPlugin(fsdp_version=2)
    settings: dict[str, Any] = {
        "mesh": init_device_mesh(device().partition(":")[0], (workers().size,)),
        "offload_policy": plugin.cpu_offload,
        "reshard_after_forward": plugin.reshard_after_forward,
    }
    half, exact = (
        MixedPrecisionPolicy(param_dtype=each, reduce_dtype=torch.float32) for each in (dtype, torch.float32)
    )
    for layer in layers_of(network).layers:
        fully_shard(layer, mp_policy=half, **settings)
    for head in heads_of(network):  # as in one process: a logit in bfloat16 has three digits
        if any(True for _ in head.parameters()):  # a decoder's answers may be rows of its embeddings
            fully_shard(head, mp_policy=exact, **settings)
    fully_shard(network, mp_policy=half, **settings)


def fill(network: Any, weights: dict[str, Tensor]) -> None:
    """Put weights in the place of those of a network, whatever device either are on; shared ones stay shared."""
    for name, parameter in network.named_parameters():
        if name in weights:
            new = nn.Parameter(weights[name], parameter.requires_grad)
            torch.utils.swap_tensors(parameter, new)  # type: ignore[no-untyped-call]


def without_weights(network: Any) -> Any:
    """A copy of a network whose parameters have shapes, but no memory."""
    empty = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
        for parameter in network.parameters()
    }
    return copy.deepcopy(network, empty)
