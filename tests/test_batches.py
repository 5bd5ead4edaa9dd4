"""Batches: every list once, positive first, within the budget, decided by seed and epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.lists import NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.train.batches import WINDOW, Batch, draw, epoch


def training_list(query: int, positives: int = 1, negatives: int = 5) -> TrainingList:
    """Document ids are <query>p<i> and <query>n<i>."""
    found = [Candidate(f"{query}p{i}", 1, True, "x", i, 0.0, POSITIVE) for i in range(positives)]
    found += [Candidate(f"{query}n{i}", 0, False, "x", i, 0.0, NEGATIVE) for i in range(negatives)]
    return TrainingList(f"q{query}", tuple(found))


def length(query_id: str, doc_id: str) -> int:
    """Of a pair, in tokens: from 5 to 44, as the ids have it."""
    return 5 + (37 * int(query_id[1:]) + 11 * int(doc_id[-1])) % 40


def tokenize(pairs: Sequence[tuple[str, str]]) -> dict[str, list[list[int]]]:
    """Tokens from which the pair can be read again: the query's number, the document's number and kind, then ones."""
    rows = []
    for query_id, doc_id in pairs:
        kind, number = doc_id.lstrip("0123456789")[0], int(doc_id[-1])
        assert doc_id.startswith(query_id[1:] + kind)
        rows.append([int(query_id[1:]), number, ord(kind), *[1] * (length(query_id, doc_id) - 3)])
    return {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}


def batches(
    lists: Sequence[TrainingList], negatives: int = 3, batch_tokens: int = 400, seed: int = 13, number: int = 0
) -> list[Batch]:
    return list(
        epoch(lists, negatives=negatives, batch_tokens=batch_tokens, tokenize=tokenize, seed=seed, number=number)
    )


def order(found: list[Batch]) -> list[tuple[str, tuple[str, ...]]]:
    return [(e.query_id, e.doc_ids) for batch in found for e in batch.examples]


MANY = [training_list(i, positives=1 + i % 3, negatives=1 + i % 7) for i in range(2 * WINDOW + 40)]


def test_every_list_is_there_once_with_its_positive_first() -> None:
    found = order(batches(MANY))
    assert Counter(query_id for query_id, _ in found) == Counter(x.query_id for x in MANY)
    by_id = {x.query_id: x for x in MANY}
    for query_id, (positive, *negatives) in found:
        source = by_id[query_id]
        pool = {c.doc_id for c in source.with_role(NEGATIVE)}
        assert positive in {c.doc_id for c in source.with_role(POSITIVE)}
        assert set(negatives) <= pool
        assert len(set(negatives)) == len(negatives) == min(3, len(pool))


def test_rows_are_those_of_the_examples_pairs() -> None:
    for batch in batches(MANY):
        rows = [batch.window["input_ids"][row][:3] for row in batch.rows]
        pairs = [(e.query_id, doc_id) for e in batch.examples for doc_id in e.doc_ids]
        assert rows == [row[:3] for row in tokenize(pairs)["input_ids"]]
        assert batch.window.keys() == {"input_ids", "attention_mask"}


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(64, 2000), st.integers(0, 3))
def test_batches_keep_within_the_budget(count: int, negatives: int, batch_tokens: int, number: int) -> None:
    found = batches(MANY[:count], negatives, batch_tokens, number=number)
    assert sum(len(batch.examples) for batch in found) == count
    for batch in found:
        width = max(length(e.query_id, doc_id) for e in batch.examples for doc_id in e.doc_ids)
        assert len(batch.examples) == 1 or width * len(batch.rows) <= batch_tokens


def test_lists_of_similar_length_are_together() -> None:
    """Padding costs less than half of what lists in random order would need."""
    lists = MANY[:WINDOW]

    def padding(found: list[Batch]) -> int:
        lengths = [[length(e.query_id, d) for e in b.examples for d in e.doc_ids] for b in found]
        return sum(max(x) * len(x) - sum(x) for x in lengths)

    found = batches(lists, negatives=1)
    examples = [e for b in found for e in b.examples]
    shuffled = [examples[i] for i in np.random.default_rng(1).permutation(len(examples))]
    size = len(examples) // len(found)
    random = [Batch(tuple(shuffled[i : i + size]), (), {}) for i in range(0, len(shuffled), size)]
    assert padding(found) < 0.75 * padding(random)


def test_seed_and_epoch_decide() -> None:
    first = order(batches(MANY, seed=13, number=0))
    assert order(batches(MANY, seed=13, number=0)) == first
    others = [order(batches(MANY, seed=seed, number=number)) for seed, number in ((13, 1), (14, 0), (0, 13))]
    for other in others:
        assert other != first
        assert sum(a[0] == b[0] for a, b in zip(first, other, strict=True)) < len(MANY) / 10
        assert sum(dict(first)[query_id] != docs for query_id, docs in other) > len(MANY) / 3


def test_batches_come_in_random_order_and_not_by_length() -> None:
    found = batches(MANY[:WINDOW])
    widths = [max(len(batch.window["input_ids"][row]) for row in batch.rows) for batch in found]
    assert len(widths) > 20
    assert widths != sorted(widths)
    assert widths != sorted(widths, reverse=True)


@pytest.mark.parametrize("negatives", [1, 4, 5, 6, 100])
def test_a_draw_takes_as_many_negatives_as_there_are(negatives: int) -> None:
    example = draw(training_list(7), negatives, np.random.default_rng(1))
    assert example.query_id == "q7"
    assert example.doc_ids[0] == "7p0"
    assert len(set(example.doc_ids)) == 1 + min(negatives, 5)


def test_draws_are_even() -> None:
    source, rng, draws = training_list(7, positives=3, negatives=8), np.random.default_rng(1), 3000
    examples = [draw(source, 2, rng) for _ in range(draws)]
    positives = Counter(e.doc_ids[0] for e in examples)
    negatives = Counter(doc_id for e in examples for doc_id in e.doc_ids[1:])
    for counts, share, size in ((positives, 1 / 3, 3), (negatives, 2 / 8, 8)):
        assert len(counts) == size
        assert all(abs(n - draws * share) < 5 * (draws * share * (1 - share)) ** 0.5 for n in counts.values())


def test_of_no_lists_there_are_no_batches() -> None:
    assert batches([]) == []


def test_a_list_beyond_the_budget_is_a_batch_of_its_own() -> None:
    found = batches(MANY[:20], batch_tokens=1)
    assert [len(batch.examples) for batch in found] == [1] * 20
