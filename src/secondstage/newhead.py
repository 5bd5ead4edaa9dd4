"""How a new head begins, so that the first steps of a training move it."""

from __future__ import annotations

import math
import random
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

# Pairs of texts of random tokens, and the tokens that are read of one.
PAIRS, QUERY, DOCUMENT, LENGTH = 32, 8, 48, 128
# The standard deviation that their logits are to have, and how many times larger the last matrix may become for it.
SPREAD, MOST = 1.0, 10.0


def begin_head(network: Any, head: nn.Linear, drawn: Collection[str], tokenizer: Any, length: int = LENGTH) -> None:
    """Have what comes after the layers pass on what they say: the head, and the pooler, whatever that was trained for.

    Its square matrices become the identity, and the last one is scaled until logits of pairs of random tokens have a
    standard deviation of `SPREAD`, but by no more than `MOST`; after Mishkin and Matas 2016, "All you need is a good
    init". As transformers draws heads, the candidates of a query differ by less than a hundredth at first. And encoders
    of texts come with a pooler that their training did not use: that of all-MiniLM-L6-v2 passes on a sixth of what it
    gets. Both keep the loss where it starts for dozens of steps. That a new pooler may be better than a trained one is
    known of BERT, too (Zhang et al. 2021, "Revisiting few-sample BERT fine-tuning").

    Args:
        network: one output; it is changed, unless its head was trained.
        head: what gives the logit.
        drawn: names of the parameters that its files do not hold. Of the others only poolers are changed.
        tokenizer: its own.
        length: tokens of a pair that the network reads.
    """
    linear = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    if not any(module is head and f"{name}.weight" in drawn for name, module in linear.items()):
        return
    for name, module in linear.items():
        parts = name.split(".")
        numbered = any(part.isdigit() for part in parts)  # layers are
        ours = "pooler" in parts or f"{name}.weight" in drawn
        if ours and not numbered and module.in_features == module.out_features:
            nn.init.eye_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    with torch.no_grad():
        head.weight *= factor(spread_of(network, tokenizer, length))


def factor(spread: float) -> float:
    """By how much the last matrix is scaled, in two digits: processors differ in the last ones.

    Args:
        spread: the standard deviation of logits as they are; one that is not finite scales nothing.
    """
    if not math.isfinite(spread):
        return 1.0
    return float(f"{SPREAD / max(spread, SPREAD / MOST):.2g}")


def spread_of(network: Any, tokenizer: Any, length: int = LENGTH) -> float:
    """The standard deviation of the logits of pairs of random tokens, which are the same ones for a tokenizer."""
    special = set(tokenizer.all_special_ids)
    ids = [number for number in sorted(tokenizer.get_vocab().values()) if number not in special]
    draw, logits = random.Random(0), []
    for _ in range(PAIRS):
        query, document = (tokenizer.decode(draw.choices(ids, k=count)) for count in (QUERY, DOCUMENT))
        features = tokenizer(query, document, truncation=True, max_length=length, return_tensors="pt")
        with torch.no_grad():
            logits.append(network(**features.to(network.device)).logits.float().item())
    return float(torch.tensor(logits).std())
