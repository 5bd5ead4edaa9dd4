"""The gradient of one step: of the whole at once, or of parts that memory holds, always the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from .objective import Objective, targets_of
from .steps import Micro


class Forward(Protocol):
    """Scores the pairs of a micro-batch, a chunk at a time."""

    def __call__(self, places: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """`[places]` scores, and a further loss, summed over the pairs, that does not depend on the other pairs."""
        ...


class Outcome(NamedTuple):
    """What a micro-batch came to.

    Attributes:
        sums: each loss, summed over the lists.
        scores: `[lists, candidates]`, without gradient.
        mask: `[lists, candidates]`, true where there is a candidate.
        further: the further losses of the pairs.
    """

    sums: dict[str, float]
    scores: Tensor
    mask: Tensor
    further: float = 0.0


def seed_everything(*parts: int) -> None:
    """Seed torch's generators by what is computed: no state of a generator ever needs to be kept.

    The same chunk of the same step draws the same dropout, in whichever process, and computed twice or once.
    """
    torch.manual_seed(int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1)))


def accumulate(
    micro: Micro,
    forward: Forward,
    objective: Objective,
    counts: dict[str, int],
    weights: Any,
    *,
    seeds: Sequence[int],
    cached: bool,
    passes: int = 0,
    idle: bool = False,
) -> Outcome:
    """Add the gradient of a micro-batch to the weights'.

    The losses need the scores of all candidates of a list, the network needs only one pair at a time. So the gradient
    goes in two parts: from the losses to the scores, and from the scores of each chunk to the weights. Where memory
    does not hold the activations of all chunks, the first pass is made without them, and each chunk's is made again
    (GradCache: Gao et al. 2021, 2101.06983). The result is the same to the bit, dropout included.

    Args:
        micro: whole lists, with their pairs in chunks.
        forward: the network, on these pairs.
        objective: the losses.
        counts: lists that count in the whole step, by loss; what the sums are divided by.
        weights: what learns.
        seeds: of this micro-batch.
        cached: whether activations are computed again.
        passes: chunks that are computed at least, as other processes compute so many: the shortest pair again and
            again, which counts once.
        idle: whether nothing of it counts.
    """
    parts: list[tuple[Tensor, Tensor | None]] = []
    own = len(micro.chunks)
    shortest = min(range(len(micro.lengths)), key=micro.lengths.__getitem__)
    chunks = [*micro.chunks, *[(shortest,)] * (passes - own)]
    for number, places in enumerate(chunks):
        seed_everything(*seeds, number)
        with torch.set_grad_enabled(not cached):
            parts.append(forward(places))
    flat = torch.cat([scores.detach() for scores, _ in parts[:own]])
    order = torch.tensor([place for places in micro.chunks for place in places], device=flat.device)
    leaf = torch.empty_like(flat).index_copy_(0, order, flat).requires_grad_()
    folded, mask = as_lists(leaf, [len(example.doc_ids) for example in micro.examples])
    sums = objective.sums(folded, targets_of(micro.examples, flat.device))
    weights.scaled(objective.total(sums, counts)).backward()
    gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    added = sum((further.detach() for _, further in parts[:own] if further is not None), torch.zeros(()))
    for number, places in enumerate(chunks):
        counts_for = float(number < own and not idle)
        if cached:
            seed_everything(*seeds, number)
            scores, further = forward(places)
        else:
            scores, further = parts[number]
            parts[number] = (scores.detach(), None)  # its activations are not needed any longer
        outputs, gradients = [scores], [counts_for * gradient[torch.tensor(places, device=gradient.device)]]
        if further is not None:
            outputs.append(weights.scaled(further))
            gradients.append(torch.full_like(further, counts_for))
        weights.backward(outputs, gradients)
    weights.pull_gradients()
    found = {name: value.item() for name, value in sums.items()}
    return Outcome(found, folded.detach(), mask, float(added))


def as_lists(scores: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Fold `[pairs]` scores into `[lists, longest list]`, with a mask that is true where there is a candidate."""
    rows = torch.split(scores, list(lengths))
    folded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    places = torch.arange(folded.shape[1], device=scores.device)
    return folded, places < torch.tensor(lengths, device=scores.device)[:, None]
