"""The learning rate, in closed form."""

from __future__ import annotations

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.train.schedule import Schedule, rate


@pytest.mark.parametrize(
    ("progress", "warmup", "expected"),
    [
        (0, 0.1, 0),
        (0.05, 0.1, 0.5),
        (0.1, 0.1, 1),
        (0.55, 0.1, 0.5),
        (1, 0.1, 0),
        (1.5, 0.1, 0),
        (0, 0, 1),
        (0.25, 0, 0.75),
        (1, 0, 0),
        (0, 1, 0),
        (0.25, 1, 0.25),
        (0.999, 1, 0.999),
        (1, 1, 0),
    ],
)
def test_the_rate_rises_to_1_and_falls_to_0_on_straight_lines(progress: float, warmup: float, expected: float) -> None:
    assert rate(progress, warmup) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("progress", "cosine"),
    [(0.2, 1), (0.4, (1 + sqrt(1 / 2)) / 2), (0.6, 1 / 2), (0.8, (1 - sqrt(1 / 2)) / 2), (1, 0), (1.5, 0)],
)
def test_after_the_warm_up_the_rate_is_half_a_cosine_or_stays(progress: float, cosine: float) -> None:
    assert rate(progress, 0.2, "cosine") == pytest.approx(cosine)
    assert rate(progress, 0.2, "constant") == 1


@given(st.floats(0, 1, exclude_max=True), st.floats(0.001, 1))
def test_the_warm_up_is_the_same_for_all(share: float, warmup: float) -> None:
    schedules: tuple[Schedule, ...] = ("linear", "cosine", "constant")
    assert [rate(share * warmup, warmup, schedule) for schedule in schedules] == pytest.approx([share] * 3)


@given(st.floats(0, 2), st.floats(0, 1), st.sampled_from(["linear", "cosine", "constant"]))
def test_the_rate_is_a_share(progress: float, warmup: float, schedule: Schedule) -> None:
    found = rate(progress, warmup, schedule)
    assert 0 <= found <= 1 + 1e-9
    assert schedule == "constant" or found == 0 or progress < 1
