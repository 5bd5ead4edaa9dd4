"""What a reranker cut off: the end of a document too long for it, as windows that it can read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from secondstage.collection import Document

# Shares of a window, as divisors: what it repeats of the text before it, so that a sentence at the edge is whole once,
# and the longest title that is kept in front.
OVERLAP = 8
TITLE = 4

Spans = list[tuple[int, int]]
"""Where each token of a text begins and ends, in characters."""


class Cut(NamedTuple):
    """A pair, and what the reranker did not see of its document.

    Attributes:
        tokens: of the whole pair, uncut, with what the reranker puts around it.
        windows: later stretches of the document, each to be scored in the document's place; none if it is seen whole.
    """

    tokens: int
    windows: tuple[str, ...]


def cut_off(tokenizer: Any, query: str, document: Document, max_length: int, overhead: int) -> Cut:
    """Measure a pair, and lay windows over the part of the document that is cut off.

    A window is as long as the pair's length allows. The first begins a little before the cut, every other a little
    before the end of the one before it, at a word where one begins there; the last one ends with the document. The
    title is kept in front of each, unless it is long.

    Args:
        tokenizer: the reranker's. The longer of query and document is cut first, at its end.
        query: the query's text.
        document: the document; the reranker reads its `content`.
        max_length: tokens of a pair, all included.
        overhead: how many of them are neither query nor document: special tokens, a prompt.
    """
    asked = _count(tokenizer, query)
    spans = _spans(tokenizer, document.content)
    budget = max_length - overhead
    # Where both are longer than half of the budget, each keeps half, and the longer one the odd token.
    room = budget - min(asked, budget - budget // 2)
    seen = budget - min(asked, budget // 2) if len(spans) >= asked else room
    windows = _windows(tokenizer, document, spans, seen, room) if len(spans) > seen and room > 0 else ()
    return Cut(overhead + asked + len(spans), tuple(windows))


def _windows(tokenizer: Any, document: Document, spans: Spans, seen: int, room: int) -> Iterator[str]:
    content = document.content
    title = f"{document.title}\n" if document.title and document.text else ""
    front = sum(begin < len(title) for begin, _ in spans)
    if front > room // TITLE:
        title, front = "", 0
    size = room - front
    start, stop = -1, seen
    while stop < len(spans):
        # The last one is as long as the others: a model that was trained on whole passages judges scraps badly.
        lowest = max(start + 1, front, min(stop - size // OVERLAP, len(spans) - size))
        start = next((i for i in range(lowest, stop) if _begins_word(content, spans[i][0])), lowest)
        stop = min(start + size, len(spans))
        window = title + content[spans[start][0] : spans[stop - 1][1]]
        # On its own a stretch may make more tokens than it did within the document.
        while stop > start + 1 and (excess := _count(tokenizer, window) - room) > 0:
            stop = max(start + 1, stop - excess)
            window = title + content[spans[start][0] : spans[stop - 1][1]]
        yield window


def _begins_word(text: str, place: int) -> bool:
    """Whether a token that begins there follows white space, or holds it, as those of SentencePiece do."""
    return any(character.isspace() for character in text[max(0, place - 1) : place + 1])


def _spans(tokenizer: Any, text: str) -> Spans:
    if tokenizer.is_fast:
        found = tokenizer(text, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
        return list(found["offset_mapping"])
    # Such a tokenizer does not say where its tokens lie: near enough they are of equal length.
    count = _count(tokenizer, text)
    return [(len(text) * i // count, len(text) * (i + 1) // count) for i in range(count)]


def _count(tokenizer: Any, text: str) -> int:
    """Tokens of a text, without special ones; a text longer than the model reads is nothing to warn of here."""
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
