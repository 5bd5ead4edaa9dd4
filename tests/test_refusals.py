"""Refusals: one request is left out, a server that refuses everything is an error."""

from __future__ import annotations

import pytest

from secondstage.errors import UserError
from secondstage.refusals import HOPELESS, BarredError, Refusals, RefusedError


def refuse() -> int:
    raise RefusedError("too long")


def test_what_is_refused_among_answers_is_counted_and_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    refusals = Refusals()
    assert refusals.counted(refuse, proven=False) is None
    assert capsys.readouterr().err == ""  # it may be the server
    assert refusals.counted(lambda: 5, proven=False) == 5
    for _ in range(2 * HOPELESS):
        assert refusals.counted(refuse, proven=False) is None
    assert capsys.readouterr().err.count("too long") == 1
    assert (refusals.answered, refusals.refused) == (1, 2 * HOPELESS + 1)
    assert refusals.failure(proven=False) is None


def test_nothing_but_refusals_are_an_error() -> None:
    refusals = Refusals()
    assert refusals.failure(proven=False) is None
    for _ in range(HOPELESS - 1):
        refusals.counted(refuse, proven=False)
    assert str(refusals.failure(proven=False)) == f"too long (so for all of {HOPELESS - 1} requests)"
    assert refusals.failure(proven=True) is None
    with pytest.raises(UserError, match="too long"):
        refusals.counted(refuse, proven=False)


def test_barred_again_and_again_is_an_error_unless_others_are_answered_in_between() -> None:
    def bar() -> int:
        raise BarredError("not with this key")

    refusals = Refusals()
    for _ in range(3):
        refusals.counted(lambda: 5, proven=False)
        for _ in range(HOPELESS - 1):
            assert refusals.counted(bar, proven=False) is None
    with pytest.raises(UserError, match="not with this key"):
        refusals.counted(bar, proven=True)


def test_any_other_error_is_its_own() -> None:
    def broken() -> int:
        raise UserError("no key")

    refusals = Refusals()
    with pytest.raises(UserError, match="no key"):
        refusals.counted(broken, proven=True)
    assert (refusals.answered, refusals.refused) == (0, 0)
