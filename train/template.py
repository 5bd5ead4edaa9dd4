"""How a tokenizer joins the tokens of a query and of a document: its special tokens, its token types, and the cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Lengths = npt.NDArray[np.int64]

# The features that a template can give.
FEATURES = frozenset({"input_ids", "token_type_ids", "attention_mask"})


class PairTemplate(NamedTuple):
    """What stands around the two texts of a pair.

    Attributes:
        special: the special tokens before the query, between the two, and after the document.
        special_types: the token types of these.
        types: the token types of the query and of the document.
    """

    special: tuple[list[int], list[int], list[int]]
    special_types: tuple[list[int], list[int], list[int]]
    types: tuple[int, int]

    @classmethod
    def probe(cls, encoded: Any) -> PairTemplate | None:
        """Read it off one pair.

        Args:
            encoded: what a fast tokenizer gave for a list of one pair, neither text being empty.

        Returns:
            None if it shows no query followed by a document.
        """
        sides = encoded.sequence_ids(0)
        if 0 not in sides or 1 not in sides:
            return None
        query, document = sides.index(0), sides.index(1)
        query_end, document_end = (len(sides) - sides[::-1].index(side) for side in (0, 1))
        if document < query_end:
            return None

        def around(row: list[int]) -> tuple[list[int], list[int], list[int]]:
            return row[:query], row[query_end:document], row[document_end:]

        ids = encoded["input_ids"][0]
        types = encoded["token_type_ids"][0] if "token_type_ids" in encoded else [0] * len(ids)
        return cls(around(ids), around(types), (types[query], types[document]))

    @property
    def size(self) -> int:
        """How many special tokens a pair has."""
        return sum(map(len, self.special))

    def rows(
        self, queries: Sequence[list[int]], documents: Sequence[list[int]], features: Sequence[str]
    ) -> Mapping[str, list[list[int]]]:
        """The rows of pairs, by feature.

        Args:
            queries: token ids of each query, cut.
            documents: token ids of each document, cut.
            features: of `FEATURES`, which are wanted.
        """
        pairs = list(zip(queries, documents, strict=True))
        before, between, after = self.special
        made = {"input_ids": [before + query + between + document + after for query, document in pairs]}
        if "token_type_ids" in features:
            before, between, after = self.special_types
            made["token_type_ids"] = [
                before + [self.types[0]] * len(query) + between + [self.types[1]] * len(document) + after
                for query, document in pairs
            ]
        if "attention_mask" in features:
            made["attention_mask"] = [[1] * len(row) for row in made["input_ids"]]
        return {feature: made[feature] for feature in features}


def longest_first(queries: Lengths, documents: Lengths, room: int) -> tuple[Lengths, Lengths]:
    """Tokens that are left of each query and document, as `truncation="longest_first"` of the tokenizers leaves them.

    The longer text is cut until both are equally long, then both. Where an odd number is left, the longer one, or of
    two equal ones the document, keeps one token more.

    Args:
        queries: `[pairs]` tokens before.
        documents: `[pairs]` tokens before.
        room: tokens that may be left of both together.
    """
    shorter = np.minimum(np.minimum(queries, documents), room // 2)
    longer = np.minimum(np.maximum(queries, documents), room - shorter)
    first_is_longer = queries > documents
    return np.where(first_is_longer, longer, shorter), np.where(first_is_longer, shorter, longer)
