"""What the batcher computes with: pairs become rows of tokens once, and rows of any requests are scored together."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from secondstage.pairmodel import PairModel
from secondstage.run import Scores

# Tokens of query and document together that are always left to them.
LEAST_ROOM = 13


class Limits(NamedTuple):
    """What a request wants cut, beside what the model reads at most.

    Attributes:
        pair: tokens of a pair.
        document: tokens of a document.
    """

    pair: int | None = None
    document: int | None = None


class Row(NamedTuple):
    """A pair, ready to be scored.

    Attributes:
        tokens: how many.
        features: what the model reads, by name, each `[tokens]`.
    """

    tokens: int
    features: Mapping[str, Sequence[int]]


class Engine(Protocol):
    """Scores rows, in threads: one prepares, and up to `threads` compute at the same time."""

    longest: int
    threads: int
    batch_tokens: int

    def cut(self, lengths: Sequence[int]) -> Iterable[list[int]]:
        """The places of rows of these lengths that are computed together: at most `batch_tokens`, padding included."""
        ...

    def prepare(self, pairs: Sequence[tuple[str, str]], limits: Limits) -> list[Row]:
        """Tokenise (query text, document text) pairs, cut to what the model reads."""
        ...

    def compute(self, rows: Sequence[Row]) -> Scores:
        """`[rows]` logits, of one batch."""
        ...


class ModelEngine:
    """A loaded reranker.

    Attributes:
        longest: tokens of a pair, at most.
        threads: that compute at once.
        batch_tokens: of a batch.
    """

    def __init__(self, model: PairModel, batch_tokens: int | None = None) -> None:
        """Take a model; none of `batch_tokens` leaves its own."""
        if batch_tokens is not None:
            model = copy.copy(model)
            model.batch_tokens = batch_tokens
        self.model = model
        self.longest, self.threads, self.batch_tokens = model.max_length, model.threads, model.batch_tokens

    def cut(self, lengths: Sequence[int]) -> Iterable[list[int]]:
        """As the model cuts them."""
        return self.model.batches(lengths)

    def prepare(self, pairs: Sequence[tuple[str, str]], limits: Limits) -> list[Row]:
        """Tokenise pairs."""
        model = self.model
        if limits.document is not None and limits.document < self.longest:
            pairs = self._cut(pairs, limits.document)
        if limits.pair is not None and limits.pair < self.longest:
            model = copy.copy(model)
            model.max_length = min(max(limits.pair, model.overhead + LEAST_ROOM), self.longest)
        encoded = model.tokenize(pairs)
        names = list(encoded)
        return [Row(len(ids), {name: encoded[name][i] for name in names}) for i, ids in enumerate(encoded["input_ids"])]

    def compute(self, rows: Sequence[Row]) -> Scores:
        """Pad and score the rows of one batch."""
        import torch

        merged = {name: [row.features[name] for row in rows] for name in rows[0].features}
        with torch.inference_mode():
            found: Any = self.model.logits(self.model.collate(merged, range(len(rows))))
        return np.asarray(found.cpu() if isinstance(found, torch.Tensor) else found, np.float32)

    def _cut(self, pairs: Sequence[tuple[str, str]], most: int) -> list[tuple[str, str]]:
        """Each document up to the end of its last token, of so many."""
        tokenizer, documents = self.model.tokenizer, [document for _, document in pairs]
        cut: dict[str, Any] = {"add_special_tokens": False, "truncation": True, "max_length": most}
        if not tokenizer.is_fast:  # those written in Python do not tell where a token ends
            ids = tokenizer(documents, **cut)["input_ids"]
            return [
                (query, tokenizer.decode(row) if len(row) == most else document)
                for (query, document), row in zip(pairs, ids, strict=True)
            ]
        encoded = tokenizer(documents, return_offsets_mapping=True, **cut)
        return [
            (query, document[: offsets[-1][1]] if len(offsets) == most else document)
            for (query, document), offsets in zip(pairs, encoded["offset_mapping"], strict=True)
        ]
