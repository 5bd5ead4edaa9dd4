"""Examples: what is drawn of a list, and which lists there is anything to draw of."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.lists import DROPPED, IGNORED, NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.train.examples import Example, Shape


def training_list(
    positives: int = 1, negatives: int = 5, ignored: int = 0, *, dropped: int = 1, scored: bool = True
) -> TrainingList:
    """Document ids are p0, p1, …, n0, …, i0, …, x0; the teacher's scores are 10 for the first, 11 for the next one."""
    roles = [POSITIVE] * positives + [NEGATIVE] * negatives + [IGNORED] * ignored + [DROPPED] * dropped
    numbers = [*range(positives), *range(negatives), *range(ignored), *range(dropped)]
    letters = {POSITIVE: "p", NEGATIVE: "n", IGNORED: "i", DROPPED: "x"}
    found = [
        Candidate(
            f"{letters[role]}{number}",
            2 if role == POSITIVE else 0,
            True,
            "x",
            place,
            0.0,
            role,
            teacher_score=10.0 + place if scored else None,
        )
        for place, (role, number) in enumerate(zip(roles, numbers, strict=True))
    ]
    return TrainingList("q", tuple(found))


def draw(shape: Shape, source: TrainingList, seed: int = 1) -> Example:
    return shape.draw(source, np.random.default_rng(seed))


COUNTS = st.integers(0, 6)


@given(COUNTS, COUNTS, COUNTS, st.integers(1, 4), st.integers(1, 9), st.booleans(), st.booleans())
def test_as_many_are_drawn_as_there_are_up_to_what_is_wanted(
    positives: int, negatives: int, ignored: int, most: int, others: int, with_ignored: bool, scored: bool
) -> None:
    source = training_list(positives, negatives, ignored, scored=scored)
    shape = Shape(most, others, with_ignored)
    example = draw(shape, source)
    kinds = "".join(doc_id[0] for doc_id in example.doc_ids)
    pool = negatives + (ignored if with_ignored and scored else 0)
    assert kinds.startswith("p" * min(most, positives))
    assert kinds.count("p") == min(most, positives)
    assert len(kinds) == min(most, positives) + min(others, pool)
    assert "x" not in kinds
    assert with_ignored or "i" not in kinds
    assert len(set(example.doc_ids)) == len(example.doc_ids)
    if shape.teaches(source):
        assert len(kinds) > 1
        assert len(set(example.labels)) == 2 or (with_ignored and scored)


def test_labels_and_teacher_scores_are_those_of_the_documents() -> None:
    example = draw(Shape(9, 9, True), training_list(2, 2, 1))
    by_id = {
        doc_id: values
        for doc_id, *values in zip(example.doc_ids, example.labels, example.labelled, example.teacher, strict=True)
    }
    assert by_id == {
        "p0": [2.0, True, 10.0],
        "p1": [2.0, True, 11.0],
        "n0": [0.0, True, 12.0],
        "n1": [0.0, True, 13.0],
        "i0": [0.0, False, 14.0],
    }
    assert example.pairs == [("q", doc_id) for doc_id in example.doc_ids]
    assert all(map(math.isnan, draw(Shape(9, 9, True), training_list(2, 2, 1, scored=False)).teacher))


@pytest.mark.parametrize(
    ("source", "shape", "teaches"),
    [
        (training_list(1, 1), Shape(1, 7), True),
        (training_list(1, 0), Shape(1, 7), False),
        (training_list(3, 0), Shape(3, 7), False),
        (training_list(0, 3), Shape(1, 7), False),
        (training_list(0, 3), Shape(1, 7, True), True),
        (training_list(0, 3, scored=False), Shape(1, 7, True), False),
        (training_list(1, 1, scored=False), Shape(1, 7, True), True),
        (training_list(0, 0, 2), Shape(1, 7), False),
        (training_list(0, 0, 2), Shape(1, 7, True), True),
        (training_list(0, 0, 2), Shape(1, 1, True), False),
        (training_list(0, 0, 1), Shape(1, 7, True), False),
        (training_list(1, 0, 1), Shape(1, 7, True), True),
        (training_list(2, 0, 0), Shape(1, 7, True), False),
        (training_list(2, 0, 0), Shape(2, 7, True), True),
        (training_list(0, 0, 0), Shape(1, 7, True), False),
    ],
)
def test_which_lists_teach(source: TrainingList, shape: Shape, teaches: bool) -> None:
    assert shape.teaches(source) is teaches


def test_draws_are_even() -> None:
    source, rng, draws = training_list(3, 6, 2), np.random.default_rng(1), 3000
    examples = [Shape(2, 2, True).draw(source, rng) for _ in range(draws)]
    counts = Counter(doc_id for example in examples for doc_id in example.doc_ids)
    assert len(counts) == 3 + 6 + 2
    for doc_id, count in counts.items():
        share = 2 / 3 if doc_id[0] == "p" else 2 / 8
        assert abs(count - draws * share) < 5 * (draws * share * (1 - share)) ** 0.5
