"""From training lists to optimizer steps: which lists a step has, and how its pairs go through the model.

A step is a few random lists. Its memory is bounded by micro-batches of whole lists, its padding kept small by chunks of
pairs of similar length: pairs do not see each other in the model, only their scores meet, in the loss of their list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from secondstage.lists import TrainingList
from secondstage.parallel import shares

from .examples import Example, Shape

# Lists whose lengths are asked for at a time.
WINDOW = 256
# What one more pass through the model costs, in tokens: chunks are only as many as save more padding than that. A CPU
# hardly feels passes of 512 tokens; fewer and larger ones suit an accelerator that must be kept busy.
PASS = 48

Pair = tuple[str, str]


class Step(NamedTuple):
    """The lists of one optimizer step, over all processes.

    Attributes:
        examples: the lists.
        lengths: tokens of the pairs of each.
    """

    examples: tuple[Example, ...]
    lengths: tuple[tuple[int, ...], ...]


class Micro(NamedTuple):
    """Lists whose activations are kept together.

    Attributes:
        examples: the lists.
        lengths: tokens of each pair, list after list.
        chunks: the pairs that go through the model together, as places in `lengths`; each place is in one of them.
    """

    examples: tuple[Example, ...]
    lengths: tuple[int, ...]
    chunks: tuple[tuple[int, ...], ...]

    @property
    def pairs(self) -> list[Pair]:
        """(query id, document id) pairs, list after list."""
        return [pair for example in self.examples for pair in example.pairs]

    @property
    def tokens(self) -> int:
        """What is computed, padding included."""
        return _padded(self.lengths, self.chunks)


class Steps:
    """The steps of every epoch: a pure function of the lists, the settings, the seed and the epoch's number.

    Attributes:
        lists: those that steps have.
        left_out: how many others there were, which teach nothing.
    """

    def __init__(
        self,
        lists: Sequence[TrainingList],
        lengths: Callable[[Sequence[Pair]], npt.NDArray[np.int64]],
        shape: Shape,
        *,
        batch_tokens: int,
        seed: int,
    ) -> None:
        """Choose the lists.

        Args:
            lists: any.
            lengths: tokens of (query id, document id) pairs.
            shape: what is drawn of a list.
            batch_tokens: of a step, without padding; a longer list is a step of its own.
            seed: of the run.
        """
        self.lists = [found for found in lists if shape.teaches(found)]
        self.left_out = len(lists) - len(self.lists)
        self._lengths, self._shape, self._batch_tokens, self._seed = lengths, shape, batch_tokens, seed

    def epoch(self, number: int) -> Iterator[Step]:
        """The steps of one epoch, numbered from 0: every list once, in random order, drawn anew."""
        examples: list[Example] = []
        lengths: list[tuple[int, ...]] = []
        tokens = 0
        for example, found in self._drawn(number):
            if examples and tokens + sum(found) > self._batch_tokens:
                yield Step(tuple(examples), tuple(lengths))
                examples, lengths, tokens = [], [], 0
            examples.append(example)
            lengths.append(found)
            tokens += sum(found)
        if examples:
            yield Step(tuple(examples), tuple(lengths))

    def _drawn(self, number: int) -> Iterator[tuple[Example, tuple[int, ...]]]:
        """Every list's example, with the tokens of its pairs."""
        order = np.random.default_rng((self._seed, number, 0)).permutation(len(self.lists))
        for start in range(0, len(order), WINDOW):
            examples = [
                # From 1, as 0 is the order's. So a draw does not depend on those of other lists.
                self._shape.draw(self.lists[i], np.random.default_rng((self._seed, number, 1 + i)))
                for i in order[start : start + WINDOW].tolist()
            ]
            lengths = iter(self._lengths([pair for example in examples for pair in example.pairs]).tolist())
            for example in examples:
                yield example, tuple(next(lengths) for _ in example.doc_ids)


def micro_batches(
    step: Step, memory_tokens: int | None = None, *, processes: int = 1, pass_tokens: int = PASS
) -> list[Micro]:
    """Cut a step between lists, those of similar length together.

    Args:
        step: the lists.
        memory_tokens: of a micro-batch at most, padding included; a longer list is one of its own, whose chunks keep
            the limit. None: no limit.
        processes: at least so many micro-batches of about equal size are made, as far as there are lists.
        pass_tokens: what one more chunk costs, in tokens.
    """
    limit = math.inf if memory_tokens is None else memory_tokens
    part_tokens = sum(map(sum, step.lengths)) / processes
    order = sorted(range(len(step.lengths)), key=lambda i: (sum(step.lengths[i]) / len(step.lengths[i]), i))
    parts: list[list[int]] = []
    seen, home = 0, -1
    for i in order:
        tokens = sum(step.lengths[i])
        # The process in whose part of the tokens the middle of the list lies.
        here = int((seen + tokens / 2) // part_tokens)
        seen += tokens
        if here == home and _fits([*parts[-1], i], step, limit, pass_tokens):
            parts[-1].append(i)
        else:
            parts.append([i])
            home = here
    return [_micro(part, step, limit, pass_tokens) for part in parts]


def share(micros: Sequence[Micro], size: int) -> list[list[Micro]]:
    """Divide micro-batches among `size` processes by tokens; some may get none."""
    return [[micros[i] for i in part] for part in shares([micro.tokens for micro in micros], size)]


def chunks_of(lengths: Sequence[int], pass_tokens: int = PASS) -> list[list[int]]:
    """Cut places, sorted by length, into chunks such that padded tokens and `pass_tokens` a chunk sum to the least.

    The longest come first: memory runs out at once or not at all. Equal lengths are never parted, so the search is over
    the different ones alone: the best cut of the k shortest is the best of fewer, and one chunk of the rest.
    """
    if not lengths:
        return []
    order = np.argsort(np.asarray(lengths), kind="stable")
    widths, counts = np.unique(np.asarray(lengths), return_counts=True)
    ends = np.concatenate([[0], np.cumsum(counts)])
    best = np.zeros(len(ends))
    cuts = np.zeros(len(ends), np.int64)
    for k in range(1, len(ends)):
        costs = best[:k] + widths[k - 1] * (ends[k] - ends[:k])
        cuts[k] = costs.argmin()
        best[k] = costs[cuts[k]] + pass_tokens
    chunks: list[list[int]] = []
    k = len(widths)
    while k:
        chunks.append(order[ends[cuts[k]] : ends[k]].tolist())
        k = int(cuts[k])
    return chunks


def _fits(part: Sequence[int], step: Step, limit: float, pass_tokens: int) -> bool:
    """Whether lists of a step fit into the limit together."""
    lengths = [length for i in part for length in step.lengths[i]]
    if max(lengths) * len(lengths) <= limit:
        return True  # chunks are never more than that
    return sum(lengths) <= limit and _padded(lengths, chunks_of(lengths, pass_tokens)) <= limit


def _micro(part: Sequence[int], step: Step, limit: float, pass_tokens: int) -> Micro:
    lengths = tuple(length for i in part for length in step.lengths[i])
    chunks = tuple(piece for chunk in chunks_of(lengths, pass_tokens) for piece in _pieces(chunk, lengths, limit))
    return Micro(tuple(step.examples[i] for i in part), lengths, chunks)


def _pieces(chunk: Sequence[int], lengths: Sequence[int], limit: float) -> Iterator[tuple[int, ...]]:
    """A chunk in pieces that are no larger than memory holds; a pair that is, alone."""
    width = max(lengths[i] for i in chunk)
    most = len(chunk) if math.isinf(limit) else max(1, int(limit // width))
    for start in range(0, len(chunk), most):
        yield tuple(chunk[start : start + most])


def _padded(lengths: Sequence[int], chunks: Iterable[Sequence[int]]) -> int:
    return sum(max(lengths[i] for i in chunk) * len(chunk) for chunk in chunks)
