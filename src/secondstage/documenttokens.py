"""Token ids of documents that were read lately: a pipeline meets the same ones in search after search."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

# Tokens that are kept, of the latest documents, in 16 MiB; and what keeping a document costs beside, in tokens.
TOKENS, ENTRY = 1 << 22, 64
KNOWN = {"input_ids", "token_type_ids", "attention_mask"}
Rows = dict[str, list[list[int]]]


class Segment(NamedTuple):
    """Special tokens of a pair that stand together.

    Attributes:
        ids: of the tokens.
        types: their token types.
    """

    ids: list[int]
    types: list[int]


class Layout(NamedTuple):
    """How a tokenizer writes a pair: special tokens before the query, between the two, and after the document.

    Attributes:
        types: the token types of query and of document.
        names: what the tokenizer gives of a pair.
    """

    before: Segment
    between: Segment
    after: Segment
    types: tuple[int, int]
    names: tuple[str, ...]

    @property
    def special(self) -> int:
        """How many special tokens there are."""
        return len(self.before.ids) + len(self.between.ids) + len(self.after.ids)

    def row(self, query: list[int], document: list[int]) -> dict[str, list[int]]:
        """What the tokenizer gives of a pair of these tokens."""
        before, between, after, (first, second), names = self
        ids = before.ids + query + between.ids + document + after.ids
        found = {"input_ids": ids}
        if "token_type_ids" in names:
            types = before.types + [first] * len(query) + between.types + [second] * len(document) + after.types
            found["token_type_ids"] = types
        if "attention_mask" in names:
            found["attention_mask"] = [1] * len(ids)
        return found


class DocumentTokens:
    """Puts pairs together from the tokens of queries and of documents, of which the latest are kept.

    The rows are those of the tokenizer. Several threads may ask at once.
    """

    def __init__(self, tokenizer: Any, layout: Layout, longest: int, limit: int = TOKENS) -> None:
        """Nothing is kept yet.

        Args:
            tokenizer: its own.
            layout: how it writes pairs.
            longest: tokens of a pair, at most.
            limit: tokens that are kept, of all documents together.
        """
        self._tokenizer, self._layout, self._longest, self._limit = tokenizer, layout, longest, limit
        self._kept: OrderedDict[bytes, array[int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def rows(self, pairs: Sequence[tuple[str, str]], most: int) -> Rows | None:
        """Rows of pairs, cut to `most` tokens, longest text first; none if the tokenizer itself has to make them.

        It has where a query fills half of the room: which of two long texts loses the odd token depends on all of both.
        """
        room = most - self._layout.special
        texts = list(dict.fromkeys(query for query, _ in pairs))
        queries = dict(zip(texts, self._plain(texts), strict=True))
        if most > self._longest or any(2 * len(ids) >= room for ids in queries.values()):
            return None
        documents = self._documents([document for _, document in pairs])
        rows = [
            self._layout.row(ids := queries[query], kept[: room - len(ids)].tolist())
            for (query, _), kept in zip(pairs, documents, strict=True)
        ]
        return {name: [row[name] for row in rows] for name in self._layout.names}

    def _documents(self, texts: Sequence[str]) -> list[array[int]]:
        keys = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
        with self._lock:
            found = {key: self._kept[key] for key in keys if key in self._kept}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        made = self._plain(list(missing.values()))
        found |= {key: array("I", ids) for key, ids in zip(missing, made, strict=True)}
        with self._lock:
            for key, ids in found.items():
                self._size += 0 if key in self._kept else len(ids) + ENTRY
                self._kept[key] = ids
                self._kept.move_to_end(key)
            while self._size > self._limit:
                self._size -= len(self._kept.popitem(last=False)[1]) + ENTRY
        return [found[key] for key in keys]

    def _plain(self, texts: list[str]) -> list[list[int]]:
        """Tokens of texts, without special ones: of each no more than a pair may have."""
        if not texts:
            return []
        encoded = self._tokenizer(texts, add_special_tokens=False, truncation=True, max_length=self._longest)
        found: list[list[int]] = encoded["input_ids"]
        return found


def layout_of(tokenizer: Any) -> Layout | None:
    """How a tokenizer writes pairs; none if that is not as `Layout` says.

    It is not where the tokens of a text depend on where it stands, nor where texts are cut at their beginnings.
    """
    texts = ("how do I knit", "a sweater of wool: begin with the sleeves, then the rest")
    query, document = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
    pair = tokenizer(*texts, verbose=False)  # which may be longer than a small model reads
    if not set(pair) <= KNOWN or not query or not document:
        return None
    ids = pair["input_ids"]
    types = pair.get("token_type_ids", [0] * len(ids))
    start = _find(query, ids, 0)
    middle = -1 if start < 0 else _find(document, ids, start + len(query))
    if middle < 0:
        return None
    ends = (start + len(query), middle + len(document))
    before, between, after = (
        Segment(list(ids[a:b]), list(types[a:b])) for a, b in ((0, start), (ends[0], middle), (ends[1], len(ids)))
    )
    layout = Layout(before, between, after, (types[start], types[middle]), tuple(pair))
    # A document that is cut, and texts in which nothing repeats.
    most = layout.special + len(query) + len(document) - 2
    cut = tokenizer(*texts, truncation=True, max_length=most)
    same = layout.row(query, document) == dict(pair) and layout.row(query, document[:-2]) == dict(cut)
    return layout if same else None


def _find(part: Sequence[int], whole: Sequence[int], start: int) -> int:
    """Where a part begins in a whole, from `start` on; -1 if nowhere."""
    places = range(start, len(whole) - len(part) + 1)
    return next((i for i in places if list(whole[i : i + len(part)]) == list(part)), -1)
