"""Kept answers: none is lost but what a kill tears."""

from __future__ import annotations

from pathlib import Path

import pytest

from secondstage.mine.synthesis.answers import AnswerCache

FIRST, SECOND = {"a": "one\ntwo", "b": "線\u2028"}, {"c": ""}


def test_answers_outlive_their_writer(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.jsonl"
    cache = AnswerCache(path)
    assert cache.answers == {}
    cache.add(FIRST)
    cache.add(SECOND)
    assert cache.answers == AnswerCache(path).answers == {**FIRST, **SECOND}


@pytest.mark.parametrize("left", [1, 3, 9])
def test_a_torn_batch_is_lost_alone(tmp_path: Path, left: int) -> None:
    path = tmp_path / "answers.jsonl"
    AnswerCache(path).add(SECOND)
    whole = path.read_bytes()
    AnswerCache(path).add(FIRST)
    path.write_bytes(path.read_bytes()[: len(whole) + left])
    torn = AnswerCache(path)
    assert torn.answers == SECOND
    torn.add(FIRST)
    assert AnswerCache(path).answers == {**SECOND, **FIRST}


@pytest.mark.parametrize("line", [b"null", b"1", b"[1]", b"\xff", b'"ab"'])
def test_lines_of_anything_else_are_passed_over(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(line)
    cache = AnswerCache(path)
    cache.add(FIRST)
    assert AnswerCache(path).answers == FIRST
