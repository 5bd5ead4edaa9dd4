"""The documentation that is already on the machine, as a collection's source."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from ..collection import Document, Qrel, Query
from ..errors import Faults
from ..files import file_digest, fingerprint
from .harvest import harvest
from .libraries import LIBRARIES, Library
from .questions import PATH, read_questions
from .split import Asked, assign, deduplicate, group, make_queries
from .text import Record

GENERATOR = 1
"""Raised with every change of this package that changes the collection."""
HUMAN = "human"
MAX_NAMED = 10


class _Made(NamedTuple):
    """What one harvest gives."""

    records: list[Record]
    splits: dict[str, list[Asked]]
    left_out: list[str]


class PydocsSource:
    """The docstrings of the installed libraries: the summary line asks, the rest with the signature is the document.

    The splits train, dev and test hold such queries, near copies always on one side. The split "human" holds
    questions as people type them, with graded answers, and is for tests only. The first use of anything but
    `fingerprint` imports every library in processes of their own, which takes some ten seconds.
    """

    name = "pydocs"

    def __init__(self, libraries: Sequence[Library] = LIBRARIES, questions: Path = PATH) -> None:
        self._libraries = tuple(libraries)
        self._questions = questions
        self._missing: list[str] = []

    def fingerprint(self) -> str:
        """A digest of the versions of Python and of the libraries; none of them is imported."""
        versions = [(library, _version(library)) for library in self._libraries]
        machine = (platform.python_version(), sys.platform, platform.machine())
        return fingerprint(self.name, GENERATOR, machine, versions, file_digest(self._questions))

    @cached_property
    def _made(self) -> _Made:
        found = harvest([library for library in self._libraries if _version(library) is not None])
        records = deduplicate(found.records)
        return _Made(records, assign(make_queries(records), group(records)), found.left_out)

    def documents(self, faults: Faults) -> Iterator[Document]:
        """One document per docstring, sorted by name; the summary line is not in it."""
        for record in self._made.records:
            yield Document(record.name, record.name, record.text)

    def queries(self, faults: Faults) -> Iterator[Query]:
        """The summary lines, then the human questions."""
        for split in self._made.splits.values():
            for query in split:
                yield Query(query.query_id, query.text, synthetic=True)
        for question in read_questions(self._questions, Faults(self.name)):
            yield Query(question.query_id, question.text)

    def qrels(self, faults: Faults) -> dict[str, list[Qrel]]:
        """The splits train, dev, test and human; an answer that these versions do not document goes to the notes."""
        qrels = {
            split: [Qrel(query.query_id, doc_id, 1) for query in queries for doc_id in query.doc_ids]
            for split, queries in self._made.splits.items()
        }
        known = {record.name for record in self._made.records}
        answers = [
            Qrel(question.query_id, doc_id, grade)
            for question in read_questions(self._questions, faults)
            for doc_id, grade in question.answers.items()
        ]
        self._missing = sorted({qrel.doc_id for qrel in answers} - known)
        return {**qrels, HUMAN: [qrel for qrel in answers if qrel.doc_id in known]}

    def notes(self) -> list[str]:
        """What is read, and what was left out because it is not there."""
        absent = [library.name for library in self._libraries if _version(library) is None]
        notes = ["a query is a docstring's summary line, which its document lacks; split human: typed questions"]
        if absent:
            notes.append(f"not installed, so left out: {', '.join(absent)}")
        if self._made.left_out:
            notes.append(f"could not be imported, so left out: {_some(self._made.left_out)}")
        if self._missing:
            notes.append(
                f"{len(self._missing)} answers of human questions are not documented here: {_some(self._missing)}"
            )
        return notes


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - MAX_NAMED} more" if len(items) > MAX_NAMED else ""
    return f"{', '.join(items[:MAX_NAMED])}{more}"


def _version(library: Library) -> str | None:
    """The installed version, "" for the standard library, None if it is not installed."""
    if not library.distribution:
        return ""
    try:
        return version(library.distribution)
    except PackageNotFoundError:
        return None
