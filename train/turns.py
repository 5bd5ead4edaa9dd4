"""What a process computes of a step, one micro-batch after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from secondstage.parallel import Workers

from .examples import Example
from .steps import Micro, share


class Turn(NamedTuple):
    """One micro-batch.

    Attributes:
        micro: the lists.
        number: of the micro-batch in its step.
        cached: whether activations are computed again instead of kept.
        passes: chunks that are computed; those beyond the micro-batch's own count nothing.
        idle: whether nothing of it counts: another process learns from it.
    """

    micro: Micro
    number: int
    cached: bool
    passes: int
    idle: bool = False


def turns(micros: Sequence[Micro], team: Workers, memory_tokens: int | None, *, lockstep: bool) -> list[Turn]:
    """The turns of one process.

    Args:
        micros: all of the step.
        team: which process this is.
        memory_tokens: that activations are kept of, at most.
        lockstep: whether all processes must make the same passes at the same time, as with sharded weights: whoever has
            fewer makes some that count nothing.
    """
    numbers = {id(micro): number for number, micro in enumerate(micros)}

    def turn(micro: Micro) -> Turn:
        cached = memory_tokens is not None and micro.tokens > memory_tokens
        return Turn(micro, numbers[id(micro)], cached, len(micro.chunks))

    shares = share(micros, team.size)
    if not lockstep:
        return [turn(micro) for micro in shares[team.rank]]
    found = []
    for at_once in zip_longest(*shares):
        others = [turn(micro) for micro in at_once if micro is not None]
        own = at_once[team.rank]
        mine = turn(own) if own is not None else others[0]._replace(micro=first_pair(others[0].micro), idle=True)
        cached, passes = any(other.cached for other in others), max(other.passes for other in others)
        found.append(mine._replace(cached=cached, passes=passes))
    return found


def first_pair(micro: Micro) -> Micro:
    """A micro-batch of one pair: the least that a process can compute while others need its weights."""
    first = micro.examples[0]
    alone = Example(first.query_id, first.doc_ids[:1], first.labels[:1], first.labelled[:1], first.teacher[:1])
    return Micro((alone,), micro.lengths[:1], ((0,),))
