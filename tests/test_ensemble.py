"""The mean of teachers: closed forms, and what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.run import Scores
from secondstage.teachers.ensemble import combine, standard


def of(*values: float) -> Scores:
    return np.array(values, np.float32)


lists = st.lists(st.integers(-50, 50), min_size=1, max_size=8).map(lambda values: of(*values))


def test_a_single_teachers_scores_stay_as_they_are() -> None:
    assert combine([of(3, -1, 8)], [0.2]).tolist() == [3, -1, 8]


def test_scores_are_scaled_within_the_list_before_their_weighted_mean() -> None:
    # Mean 0, deviation 1: (1, 3) is (-1, 1), and (30, 10) is (1, -1).
    assert combine([of(1, 3), of(30, 10)], [3, 1]).tolist() == pytest.approx([(-3 + 1) / 4, (3 - 1) / 4])
    # (0, 0, 3) has mean 1 and deviation sqrt(2).
    assert standard(of(0, 0, 3)).tolist() == pytest.approx([-(2**-0.5), -(2**-0.5), 2**0.5])


@pytest.mark.parametrize("constant", [of(0.1, 0.1, 0.1), of(0, 0, 0), of(3e38, 3e38, 3e38)])
def test_a_teacher_that_tells_nothing_apart_has_no_say(constant: Scores) -> None:
    assert standard(constant).tolist() == [0, 0, 0]
    other = of(1, 2, 4)
    assert combine([constant, other], [1, 1]).tolist() == pytest.approx((standard(other) / 2).tolist(), rel=1e-6)


def test_a_teacher_without_scores_is_left_out() -> None:
    together = combine([of(1, 3), None, of(30, 10)], [3, 100, 1])
    assert together.tolist() == combine([of(1, 3), of(30, 10)], [3, 1]).tolist()
    assert combine([None, of(5, 9)], [1, 1]).tolist() == [-1, 1]


def test_what_one_teacher_left_out_the_others_decide() -> None:
    # Over what it scored, (1, -, 3) is (-1, -, 1).
    assert standard(of(1, np.nan, 3)).tolist() == pytest.approx([-1, np.nan, 1], nan_ok=True)
    others = of(10, 30, np.nan, np.nan)
    found = combine([of(1, np.nan, 3, np.nan), others, of(*[np.nan] * 4)], [3, 1, 9])
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx([-1, 1, 1, np.nan], nan_ok=True)
    assert np.isnan(combine([of(np.nan, np.nan)] * 2, [1, 2])).all()
    assert combine([of(2, np.nan)], [7]).tolist() == pytest.approx([2, np.nan], nan_ok=True)


@given(lists, st.floats(0.5, 100), st.integers(-1000, 1000), st.data())
def test_no_teachers_own_scale_matters(scores: Scores, factor: float, shift: int, data: st.DataObject) -> None:
    other = of(*data.draw(st.lists(st.integers(-9, 9), min_size=len(scores), max_size=len(scores))))
    moved = (scores * factor + shift).astype(np.float32)
    found = combine([scores, other], [1, 2])
    assert found.dtype == np.float32
    assert combine([moved, other], [1, 2]).tolist() == pytest.approx(found.tolist(), abs=1e-3)


@given(lists)
def test_a_teacher_beside_itself_is_itself_at_a_common_scale(scores: Scores) -> None:
    found = combine([scores, scores], [1, 5])
    assert found.tolist() == pytest.approx(standard(scores).tolist(), abs=1e-5)
    assert (np.diff(found[np.argsort(scores, kind="stable")]) >= 0).all()


def test_large_scores_do_not_overflow() -> None:
    assert np.isfinite(combine([of(-3e38, 3e38), of(1, 2)], [1, 1])).all()


def test_an_empty_list_is_one() -> None:
    assert combine([of(), of()], [1, 1]).shape == (0,)


@pytest.mark.parametrize(
    ("scores", "fault"),
    [
        ([], "no teacher scored"),
        ([None, None], "no teacher scored"),
        ([of(1), of(1, 2)], "1, 2 candidates"),
        ([of(1, -np.inf)], "infinite"),
        ([of(1, 2), of(1, np.inf)], "infinite"),
    ],
)
def test_what_cannot_be_combined_is_refused(scores: list[Scores | None], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        combine(scores, [1.0] * len(scores))


def test_every_teacher_has_a_weight() -> None:
    with pytest.raises(ValueError, match="zip"):
        combine([of(1), of(2)], [1])
