"""Faults are collected, counted, and raised together."""

from __future__ import annotations

import pytest

from secondstage.errors import MAX_SHOWN, Faults, UserError


def faults(count: int) -> Faults:
    found = Faults("the thing")
    for i in range(count):
        found.add(f"fault {i}")
    return found


@pytest.mark.parametrize(
    ("count", "headline"), [(0, "0 faults"), (1, "1 fault"), (2, "2 faults"), (MAX_SHOWN, f"{MAX_SHOWN} faults")]
)
def test_a_report_is_a_headline_and_a_line_for_each(count: int, headline: str) -> None:
    assert faults(count).report().splitlines() == [f"the thing: {headline}", *(f"  fault {i}" for i in range(count))]


@pytest.mark.parametrize("extra", [1, 500])
def test_beyond_the_first_only_the_number_is_kept(extra: int) -> None:
    found = faults(MAX_SHOWN + extra)
    assert found.count == MAX_SHOWN + extra
    assert found.messages == tuple(f"fault {i}" for i in range(MAX_SHOWN))
    lines = found.report().splitlines()
    assert lines[0] == f"the thing: {MAX_SHOWN + extra} faults"
    assert lines[-1] == f"  … and {extra} more"
    assert len(lines) == MAX_SHOWN + 2


def test_nothing_is_raised_without_a_fault() -> None:
    faults(0).raise_if_any("mend it")


def test_the_whole_report_is_raised_with_the_way_out() -> None:
    with pytest.raises(UserError) as caught:
        faults(2).raise_if_any("mend it")
    assert str(caught.value) == "the thing: 2 faults\n  fault 0\n  fault 1\nmend it"
    with pytest.raises(UserError) as caught:
        faults(1).raise_if_any()
    assert str(caught.value) == "the thing: 1 fault\n  fault 0"


def test_messages_cannot_be_changed_from_outside() -> None:
    found = faults(1)
    assert isinstance(found.messages, tuple)
    found.add("one more")
    assert found.messages == ("fault 0", "one more")
