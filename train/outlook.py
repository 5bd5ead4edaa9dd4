"""What to expect of a training that is about to start: the size of an epoch, and what a step of it takes here."""

from __future__ import annotations

import time
from collections.abc import Container
from itertools import islice

from secondstage.compute import device, resolve
from secondstage.lists import POSITIVE
from secondstage.models import read_config
from secondstage.networks import has_head
from secondstage.parallel import gather

from .advice import Data, advise
from .loop import Loop
from .objective import targets_of
from .size import size_of
from .steps import Step, micro_batches

# Steps that the size of an epoch is estimated from.
SAMPLED = 20


def outlook(loop: Loop, queries: Container[str], documents: int) -> list[str]:
    """What to expect and what is proposed, in lines; of a training that goes on, nothing.

    All processes call it together.

    Args:
        loop: that has not started yet.
        queries: ids of the collection's own, which labels are of.
        documents: of the collection.
    """
    drawn = list(islice(loop.steps.epoch(0), SAMPLED))
    if gather(loop.team.lead and loop.checkpoints.latest() is not None)[0] or not drawn:
        return []
    config = loop.config
    part = sum(len(step.examples) for step in drawn) / len(loop.steps.lists)
    pairs = round(sum(len(lengths) for step in drawn for lengths in step.lengths) / part)
    tokens = round(sum(sum(lengths) for step in drawn for lengths in step.lengths) / part)
    positives = [len(found.with_role(POSITIVE)) for found in loop.steps.lists]
    labelled = sum(n > 0 and x.query_id in queries for n, x in zip(positives, loop.steps.lists, strict=True))
    data = Data(len(loop.steps.lists), labelled, sum(positives), pairs, tokens, len(loop.selection), documents)
    new_head = config.head == "classification" and not has_head(read_config(config.model))
    size = size_of(loop.weights.working, new_head=new_head, half=resolve(config.precision) != "fp32")
    # Processes on one CPU share its memory.
    memory = size.memory // (loop.team.size if device() == "cpu" else 1)
    size = size._replace(processes=loop.team.size, spread=not loop.weights.whole, memory=memory)
    return advise(data, size, config, seconds_per_token=_seconds_per_token(loop, drawn[0]))


def _seconds_per_token(loop: Loop, step: Step) -> float:
    """What a step takes that nothing is learnt from."""
    micros = micro_batches(step, loop.config.memory_tokens, processes=loop.team.size)
    counts = loop.objective.counts(targets_of(step.examples))
    seconds = 0.0
    for _ in range(2):  # the first is slower than any other
        start = time.monotonic()
        with loop.weights.forgetting():
            loop.gradient(step, micros, counts)
        seconds = time.monotonic() - start
    loop.watch.forget()
    return seconds / sum(micro.tokens for micro in micros)
