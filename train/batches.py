"""From training lists to batches: one positive and k negatives a query, lists of similar length together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from secondstage.lists import NEGATIVE, POSITIVE, TrainingList

# Lists that are tokenised and sorted by length at a time: enough for little padding, few enough to stay random.
WINDOW = 256


class Example(NamedTuple):
    """One list of a step: the query and its documents, the positive first."""

    query_id: str
    doc_ids: tuple[str, ...]


class Batch(NamedTuple):
    """The lists of one step.

    Attributes:
        examples: the lists.
        rows: token rows in the window that `examples` come from, list by list.
        window: the tokenised window, by feature: `input_ids`, `attention_mask`, …
    """

    examples: tuple[Example, ...]
    rows: tuple[int, ...]
    window: dict[str, list[list[int]]]


Tokenize = Callable[[Sequence[tuple[str, str]]], dict[str, list[list[int]]]]


def draw(training_list: TrainingList, negatives: int, rng: np.random.Generator) -> Example:
    """One positive and up to `negatives` negatives, at random."""
    positive = rng.choice([candidate.doc_id for candidate in training_list.with_role(POSITIVE)])
    pool = [candidate.doc_id for candidate in training_list.with_role(NEGATIVE)]
    chosen = rng.permutation(len(pool))[:negatives]
    return Example(training_list.query_id, (str(positive), *(pool[i] for i in chosen)))


def epoch(
    lists: Sequence[TrainingList], *, negatives: int, batch_tokens: int, tokenize: Tokenize, seed: int, number: int
) -> Iterator[Batch]:
    """The batches of one epoch: every list once, in an order that the seed and the epoch's number decide.

    Args:
        lists: each with a positive and a negative.
        negatives: per list.
        batch_tokens: tokens of a batch, padding included; a longer list is a batch of its own.
        tokenize: from (query id, document id) pairs to token rows.
        seed: of the run.
        number: of the epoch, from 0.
    """
    rng = np.random.default_rng((seed, number))
    order = rng.permutation(len(lists))
    for start in range(0, len(order), WINDOW):
        examples = [draw(lists[i], negatives, rng) for i in order[start : start + WINDOW]]
        window = tokenize([(example.query_id, doc_id) for example in examples for doc_id in example.doc_ids])
        batches = list(_pack(examples, [len(row) for row in window["input_ids"]], batch_tokens))
        for i in rng.permutation(len(batches)):
            rows, chosen = batches[i]
            yield Batch(tuple(examples[j] for j in chosen), rows, window)


def _pack(
    examples: Sequence[Example], lengths: Sequence[int], batch_tokens: int
) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """Token rows and example numbers of each batch, lists of similar length together."""
    starts = np.cumsum([0, *(len(example.doc_ids) for example in examples)])
    rows = [range(starts[i], starts[i + 1]) for i in range(len(examples))]
    widths = [max(lengths[row] for row in rows[i]) for i in range(len(examples))]
    chosen: list[int] = []
    pairs = width = 0
    for i in sorted(range(len(examples)), key=lambda i: widths[i]):
        if chosen and max(width, widths[i]) * (pairs + len(rows[i])) > batch_tokens:
            yield tuple(row for j in chosen for row in rows[j]), chosen
            chosen, pairs, width = [], 0, 0
        chosen.append(i)
        pairs, width = pairs + len(rows[i]), max(width, widths[i])
    if chosen:
        yield tuple(row for j in chosen for row in rows[j]), chosen
