"""Failures in words: each is found where it is, and only there."""

from __future__ import annotations

from math import log

import pytest

from secondstage.train.findings import below, clipped, collapsed, random_order, saturated, unmoved, worse_teacher


@pytest.mark.parametrize(
    ("spreads", "found"), [([], False), ([0.0] * 20, True), ([0.009] * 20, True), ([0.009] * 19 + [0.01], False)]
)
def test_scores_are_collapsed_if_all_lists_are_flat_all_the_time(spreads: list[float], found: bool) -> None:
    assert collapsed(spreads).startswith("collapsed scores: for 20 steps") is found


@pytest.mark.parametrize(
    ("sizes", "found"), [([], False), ([33.0] * 20, True), ([33.0] * 19 + [32.0], False), ([5.0] * 20, False)]
)
def test_scores_are_saturated_if_they_are_huge_all_the_time(sizes: list[float], found: bool) -> None:
    assert ("as large as 33" in saturated(sizes)) is found


@pytest.mark.parametrize(
    ("last", "constants", "found"),
    [
        ([], [], False),
        # LCE over eight candidates: knowing nothing costs log 8.
        ([log(8)] * 5, [log(8)] * 5, True),
        ([0.97 * log(8)] * 5, [log(8)] * 5, False),
        # Lists became shorter, and the loss with them: that is no progress.
        ([log(4)] * 5, [log(4)] * 5, True),
        # A reranker that was good before cannot improve, and need not.
        ([0.3] * 5, [log(8)] * 5, False),
        # What matters is the mean: single steps are noisy.
        ([1.0, 3.0, 1.0, 3.0, 2.0], [2.0] * 5, True),
    ],
)
def test_the_loss_is_compared_with_that_of_knowing_nothing(
    last: list[float], constants: list[float], found: bool
) -> None:
    assert unmoved(last, constants).startswith("the loss does not move") is found


def test_what_the_loss_is_compared_with_is_said() -> None:
    assert "2.079, no better than the 2.079 of one and the same score" in unmoved([log(8)], [log(8)])


@pytest.mark.parametrize(
    ("norms", "found"),
    [([], False), ([70.0] * 20, True), ([70.0] * 19 + [50.0], False), ([12.0] * 20, False), ([0.5] * 20, False)],
)
def test_gradients_may_be_clipped_but_not_all_of_them_by_far(norms: list[float], found: bool) -> None:
    """A median of 12 at a clip of 1 is what sound trainings have."""
    assert ("every gradient is far above train.clip=1: its norm is 70" in clipped(norms, 1.0)) is found
    assert not clipped(norms, 2.0)


@pytest.mark.parametrize(
    ("value", "queries", "found"), [(0.5, 10, False), (0.51, 10, False), (0.49, 10, True), (0.0, 0, False)]
)
def test_dev_below_the_first_stage(value: float, queries: int, found: bool) -> None:
    assert ("is below the first stage's 0.5000 (10 queries)" in below(value, 0.5, queries)) is found


@pytest.mark.parametrize(
    ("value", "lists", "found"), [(0.5, 10, False), (0.41, 10, False), (0.39, 10, True), (0.0, 0, False)]
)
def test_a_teacher_is_worse_by_more_than_two_standard_errors(value: float, lists: int, found: bool) -> None:
    said = worse_teacher(value, 0.5, 0.05, lists)
    assert (f"10 labelled lists worse than the first stage does: nDCG@10 {value:.4f} against 0.5000" in said) is found


@pytest.mark.parametrize(("value", "found"), [(0.1, True), (0.2, True), (0.21, False), (0.05, True)])
def test_an_order_is_random_within_two_standard_errors_of_chance(value: float, found: bool) -> None:
    assert ("as chance does" in random_order(value, 0.1, 0.05)) is found
