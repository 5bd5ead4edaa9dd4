"""The first words of a text: what is sent of a document that may be too long."""

from __future__ import annotations

import re
from itertools import islice

# Letters a word, at most: where none are told apart by spaces, as in Chinese, this is the limit.
WORD = 10


def first_words(text: str, count: int) -> str:
    """The text up to the end of its last word, of so many; as it is if it has no more. Cut again, it stays as it is."""
    if len(text) < 2 * count:
        return text
    head = text[: WORD * count]
    ends = [word.end() for word in islice(re.finditer(r"\S+", head), count)]
    return head[: ends[-1]] if len(ends) == count else head
