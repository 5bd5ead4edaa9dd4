"""Answers of a language model kept in a file, so that no prompt is paid for twice.

The file holds a JSON object a line: the digest of all that was asked, the answer and its tokens. Lines are only ever
appended, each before the next answer is awaited; a kill tears the last one at most, which is then cut off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .errors import UserError

# How every line starts.
START = b'{"key": "'
# What ends a thought.
THOUGHT = "</think>"


class Reply(NamedTuple):
    """What a model answered.

    Attributes:
        answer: the text.
        prompt_tokens: tokens of the prompt; 0 if the server does not tell.
        completion_tokens: tokens of the answer; 0 if the server does not tell.
        cut: whether it is unfinished, for it may have no more tokens.
    """

    answer: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cut: bool = False

    @property
    def said(self) -> str:
        """The answer without what the model thought first; empty if it only thought.

        Some templates open the thought in the prompt: of it the answer has the end alone.
        """
        return self.answer.rpartition(THOUGHT)[2].partition("<think>")[0]

    @property
    def thought(self) -> bool:
        """Whether a thought ends in the answer."""
        return THOUGHT in self.answer


def read_replies(path: Path) -> dict[str, Reply]:
    """Every whole line of an answer cache, by key; none if there is no file.

    Raises:
        UserError: it is no answer cache.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    # What follows the last line break was torn by a kill.
    *lines, torn = content.split(b"\n")
    replies: dict[str, Reply] = {}
    try:
        for line in lines:
            record = json.loads(line)
            key = record.pop("key")
            replies[key] = Reply(**record)
        if torn[: len(START)] != START[: len(torn)]:
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(
            f"{path} is no answer cache of this version of secondstage: if nothing else needs it, delete it, and the "
            "prompts are sent again"
        ) from None
    return replies


@contextmanager
def appending(path: Path) -> Iterator[BinaryIO]:
    """Open an answer cache at its end, after what was torn is cut off; makes the file, and its folder, if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        yield file


def write_reply(file: BinaryIO, key: str, reply: Reply) -> None:
    """Append one answer and hand it to the system, so that it outlives this process."""
    record = {"key": key, **reply._asdict()}
    if not reply.cut:
        del record["cut"]
    # ASCII: no answer can hold what ends a line or cannot be encoded.
    file.write(json.dumps(record).encode("ascii") + b"\n")
    file.flush()
