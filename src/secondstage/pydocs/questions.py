"""Reads `questions.tsv`: questions as people type them, with graded answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import Faults

PATH = Path(__file__).with_name("questions.tsv")
HEADER = ("query_id", "question", "answers", "hard")


class Question(NamedTuple):
    """One question; `hard` says that it shares no content word with the documents that answer it."""

    query_id: str
    text: str
    answers: dict[str, int]
    hard: bool


def read_questions(path: Path, faults: Faults) -> Iterator[Question]:
    """Every question of the file; a malformed line is a fault and is left out."""
    header, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    if tuple(header.split("\t")) != HEADER:
        faults.add(f"{path.name}: the first line must name the columns {', '.join(HEADER)}, not {header!r}")
    for number, line in enumerate(lines, start=2):
        try:
            query_id, text, answers, hard = line.split("\t")
            grades = {doc_id: int(grade) for doc_id, _, grade in (item.rpartition(":") for item in answers.split())}
        except ValueError:
            faults.add(f"{path.name}, line {number}: {line!r} is not four columns with answers as id:grade")
            continue
        if hard not in ("0", "1") or not grades or not set(grades.values()) <= {1, 2}:
            faults.add(f"{path.name}, line {number}: grades are 1 and 2, hard is 0 or 1")
            continue
        yield Question(query_id, text, grades, hard == "1")
