"""The model that is trained: how it starts, and in which precision it computes."""

from __future__ import annotations

import copy
from typing import Any

import torch

from secondstage.compute import Precision, device, resolve
from secondstage.config import TrainConfig
from secondstage.models import loading, quiet_transformers
from secondstage.reranker import at_precision, load_cross_encoder


def start_model(config: TrainConfig) -> tuple[Any, Any]:
    """Load the model with one output, and its tokenizer; a new head draws from torch's global generator."""
    from transformers import AutoConfig

    with quiet_transformers():
        model_config = loading(config.model, AutoConfig.from_pretrained)
    for name, value in vars(model_config).items():
        if "dropout" in name and isinstance(value, float):
            setattr(model_config, name, config.dropout)
    model_config.num_labels = 1
    # SDPA's backward is slow on CPUs: with eager attention a step is 1.5 times as fast (bench/step.py).
    attention = "eager" if device() == "cpu" else None
    return load_cross_encoder(config.model, config=model_config, attn_implementation=attention)


class MixedPrecision:
    """Computes in bfloat16, learns in single precision.

    Forward and backward pass run on a working copy in bfloat16; its gradients go to the master weights, which the
    optimizer updates, and back (Micikevicius et al. 2018). On a CPU this is faster than autocast (a tenth to a third,
    bench/step.py), which casts every activation between the two. In single precision both are the same object.

    Attributes:
        master: the weights that are learnt and saved.
        working: the model that computes.
    """

    def __init__(self, network: Any, precision: Precision) -> None:
        self.master = network
        self.working = network if resolve(precision) == "fp32" else at_precision(copy.deepcopy(network), "bf16")
        self._pairs = [
            pair
            for pair in zip(self.master.parameters(), self.working.parameters(), strict=True)
            if pair[0] is not pair[1]
        ]

    def pull_gradients(self) -> None:
        """Move the working copy's gradients to the master weights."""
        for master, working in self._pairs:
            master.grad = None if working.grad is None else working.grad.to(master.dtype)
            working.grad = None

    @torch.no_grad()
    def push_weights(self) -> None:
        """Copy the master weights to the working copy."""
        for master, working in self._pairs:
            working.copy_(master)
