"""What the gate said of a bundle: kept in it, believed only of this very bundle."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from secondstage.errors import UserError
from secondstage.serve import Verdict, write_verdict
from secondstage.serve.verdict import FILE, read_verdict

NO = Verdict(False, "Do not ship: it is worse – by 3 %.")


@pytest.mark.parametrize("verdict", [NO, Verdict(True, "Ship: it is better.")])
def test_what_was_written_is_read(tmp_path: Path, verdict: Verdict) -> None:
    write_verdict(tmp_path, "abc", verdict)
    assert read_verdict(tmp_path, "abc") == verdict
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert json.loads((tmp_path / FILE).read_text()) == {"bundle": "abc", **verdict._asdict()}


def test_a_bundle_that_was_never_judged_has_none(tmp_path: Path) -> None:
    assert read_verdict(tmp_path, "abc") is None


@pytest.mark.parametrize("fingerprint", ["abd", "", "ABC"])
def test_what_was_said_of_another_bundle_does_not_count(tmp_path: Path, fingerprint: str) -> None:
    """A file that was copied along, or that outlived what it was about."""
    write_verdict(tmp_path, "abc", NO)
    assert read_verdict(tmp_path, fingerprint) is None


@pytest.mark.parametrize("content", ["[]", "null", "{}", '"abc"', '{"passed": true, "sentence": "Ship"}'])
def test_a_file_that_names_no_bundle_does_not_count(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert read_verdict(tmp_path, "abc") is None


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    """It may have said no: silence would ship what was refused."""
    (tmp_path / FILE).write_text('{"bundle": "abc", "pas')
    with pytest.raises(UserError, match=rf"{FILE} is not valid JSON"):
        read_verdict(tmp_path, "abc")


def test_a_new_verdict_replaces_the_old_and_the_same_is_not_written_again(tmp_path: Path) -> None:
    def written(fingerprint: str, verdict: Verdict) -> bool:
        os.utime(tmp_path / FILE, (1, 1))
        write_verdict(tmp_path, fingerprint, verdict)
        assert read_verdict(tmp_path, fingerprint) == verdict
        return (tmp_path / FILE).stat().st_mtime != 1

    write_verdict(tmp_path, "abc", NO)
    assert not written("abc", NO)
    assert written("abc", NO._replace(passed=True))
    assert written("abc", Verdict(True, "Ship."))
    assert written("abd", Verdict(True, "Ship."))
    assert not written("abd", Verdict(True, "Ship."))
