"""Results packed into a budget of tokens: the context of a language model."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from secondstage.collection import Document
from secondstage.duplicates import near_pairs

from .answer import Piece, Result

# Results that are this alike say the same: the better one is kept.
ALIKE = 0.9
# After a full stop, of any script, and what closes a quotation; after an ideographic one no space is needed.
SENTENCE_END = re.compile(r"""(?:[.!?…]["'”’»)\]]*(?=\s)|[。！？]["'”’»」』)\]]*|\n)""")


def pack(
    results: Sequence[Result], budget_tokens: int, count_tokens: Callable[[str], int], *, alike: float = ALIKE
) -> list[Piece]:
    """The best results that fit, whole, and of the next one as many sentences as fit.

    The tokens of all pieces together are never more than the budget; what stands between the pieces is not counted.

    Args:
        results: best first.
        budget_tokens: of all texts together.
        count_tokens: the tokens of a text.
        alike: a result whose similarity with a better one (`duplicates.near_pairs`) reaches this is left out.
    """
    pieces: list[Piece] = []
    left = budget_tokens
    for doc_id, text in distinct(results, alike):
        taken = count_tokens(text)
        if taken <= left:
            pieces.append(Piece(doc_id, text))
            left -= taken
            continue
        beginning = cut(text, left, count_tokens)
        return [*pieces, Piece(doc_id, beginning, whole=False)] if beginning else pieces
    return pieces


def distinct(results: Iterable[Result], alike: float = ALIKE) -> Iterator[tuple[str, str]]:
    """The id and the content of each result that is not nearly that of a better one which is kept.

    One after the other: a budget is full long before the results end.
    """
    kept: dict[str, str] = {}
    for result in results:
        content = Document(result.doc_id, result.title, result.text).content
        known = {**kept, result.doc_id: content}
        if not near_pairs(((better, result.doc_id) for better in kept), known.__getitem__, alike):
            kept = known
            yield result.doc_id, content


def cut(text: str, budget_tokens: int, count_tokens: Callable[[str], int]) -> str:
    """The longest beginning of whole sentences that fits; empty if not even the first does."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    low, high = 0, len(ends)
    # As many as fit: more text has no fewer tokens, but for a few at the seam.
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens(text[: ends[middle - 1]].rstrip()) <= budget_tokens:
            low = middle
        else:
            high = middle - 1
    return text[: ends[low - 1]].rstrip() if low else ""


def token_counter(tokenizer: Any) -> Callable[[str], int]:
    """Counts the tokens of a text, without special ones; safe in several threads."""
    own, lock = copy.deepcopy(tokenizer), threading.Lock()

    def count(text: str) -> int:
        with lock:
            return len(own(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])

    return count
