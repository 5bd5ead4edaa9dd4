"""What each process computes of a step: all of it once, and with sharded weights in step with the others."""

from __future__ import annotations

import pytest

from secondstage.parallel import Workers
from secondstage.train.examples import Example
from secondstage.train.steps import Micro
from secondstage.train.turns import turns


def micro(name: str, tokens: int, chunks: int) -> Micro:
    """One list with so many chunks of one pair each."""
    docs = tuple(f"d{i}" for i in range(chunks))
    example = Example(name, docs, (0.0,) * chunks, (True,) * chunks, (0.0,) * chunks)
    return Micro((example,), (tokens // chunks,) * chunks, tuple((i,) for i in range(chunks)))


MICROS = [micro("a", 60, 3), micro("b", 100, 1), micro("c", 40, 2), micro("d", 20, 4)]


@pytest.mark.parametrize("lockstep", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_every_micro_batch_counts_once(size: int, lockstep: bool) -> None:
    found = [turns(MICROS, Workers(rank, size), None, lockstep=lockstep) for rank in range(size)]
    counted = [turn for own in found for turn in own if not turn.idle]
    assert sorted(turn.number for turn in counted) == [0, 1, 2, 3]
    assert all(turn.micro is MICROS[turn.number] for turn in counted)
    if not lockstep:
        assert all(turn.passes == len(turn.micro.chunks) for turn in counted)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_in_lockstep_all_make_the_same_passes(size: int) -> None:
    found = [turns(MICROS, Workers(rank, size), 50, lockstep=True) for rank in range(size)]
    assert len({len(own) for own in found}) == 1
    for at_once in zip(*found, strict=True):
        assert len({(turn.passes, turn.cached) for turn in at_once}) == 1
        assert not all(turn.idle for turn in at_once)
        assert all(turn.passes >= len(turn.micro.chunks) for turn in at_once)


def test_who_has_nothing_to_do_computes_one_pair() -> None:
    """Four micro-batches among six."""
    idle = [turn for rank in range(6) for turn in turns(MICROS, Workers(rank, 6), None, lockstep=True) if turn.idle]
    assert len(idle) == 2
    for turn in idle:
        assert (len(turn.micro.lengths), turn.micro.chunks, turn.passes) == (1, ((0,),), 4)
        assert turn.micro.pairs == MICROS[turn.number].pairs[:1]


def test_only_what_memory_does_not_hold_is_computed_twice() -> None:
    assert {t.number: t.cached for t in turns(MICROS, Workers(), 50, lockstep=False)} == {
        0: True,
        1: True,
        2: False,
        3: False,
    }


def test_a_step_of_nothing_has_no_turn() -> None:
    assert turns([], Workers(1, 2), None, lockstep=True) == []
