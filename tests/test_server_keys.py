"""API keys: their file, and the header."""

from __future__ import annotations

import hmac
from collections import Counter
from pathlib import Path

import pytest

from secondstage.errors import UserError
from secondstage.serve.server.errors import UnauthorizedError
from secondstage.serve.server.keys import Keys, read_keys


def test_a_file_has_a_key_a_line(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    for text in ("# of the team\n\n  first \nsecond\n", "\ufefffirst\r\nsecond"):  # the second one as Windows writes it
        file.write_text(text, encoding="utf-8")
        keys = read_keys(str(file))
        assert len(keys) == 2
        keys.check("Bearer first")
        keys.check("bearer  second ")
    for header in (None, "", "first", "Bearer ", "Bearer First", "Bearer first second", "Token first"):
        with pytest.raises(UnauthorizedError):
            keys.check(header)
    assert "first" not in repr(vars(keys))


def test_all_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever fits: the time tells nothing."""
    compared: Counter[bool] = Counter()
    compare = hmac.compare_digest

    def noting(given: bytes, digest: bytes) -> bool:
        same = compare(given, digest)
        compared[same] += 1
        return same

    monkeypatch.setattr(hmac, "compare_digest", noting)
    names = ["first", "second", "third"]
    keys = Keys(names)
    for name in names:
        compared.clear()
        keys.check(f"Bearer {name}")
        assert compared == {True: 1, False: 2}
    compared.clear()
    with pytest.raises(UnauthorizedError):
        keys.check("Bearer fourth")
    assert compared == {False: 3}


def test_without_a_file_anyone_may_ask() -> None:
    assert not read_keys(None)
    Keys([]).check(None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# none\n", "holds no key"),
        (b"a b\n", "key 1: must be"),
        ("\u00e9".encode(), "key 1"),
        (b"\xff", "cannot be read"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "keys.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_keys(str(file))
    with pytest.raises(UserError, match="cannot be read"):
        read_keys(str(tmp_path / "none"))
