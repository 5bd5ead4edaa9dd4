"""Answers kept in a file, so that a run that was killed asks for none of them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path


class AnswerCache:
    """Answers by the digest of what they answer: one JSON line for each batch, only ever appended.

    A kill while writing tears the last line at most; its batch is then asked for again. One writer at a time.

    Attributes:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def answers(self) -> dict[str, str]:
        """All that are there, read once."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return {}
        found: dict[str, str] = {}
        for line in lines:
            try:
                found.update(json.loads(line))
            except (ValueError, TypeError):
                continue
        return found

    def add(self, batch: Mapping[str, str]) -> None:
        """Store the answers of a batch."""
        self.answers.update(batch)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            # The line break first: what a kill left unfinished ends there.
            file.write(b"\n" + json.dumps(dict(batch)).encode())
