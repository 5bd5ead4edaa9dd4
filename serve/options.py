"""What a search may be told: how many, how deep, how sure, how fast, of which documents, for how many tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from secondstage.errors import UserError
from secondstage.intake import SURROGATE

Value = str | int | float | bool
Where = Mapping[str, Value | Sequence[Value]]


class SearchOptions(NamedTuple):
    """The settings of one search.

    Attributes:
        top_n: results at most.
        depth: candidates that the last reranker reads, in place of the pipeline's own; those below keep their order.
        min_score: what a result's probability must reach, or the sigmoid of its logit where the reranker was never
            calibrated (`Pipeline.min_score_of`). A document that the last reranker did not read is left out.
        latency_ms: what the search may take; kept by reranking fewer candidates.
        where: what fields of a document must hold: one value, or any of several.
        pack_tokens: the tokens of the context that is made of the results; none makes none.
    """

    top_n: int = 10
    depth: int | None = None
    min_score: float | None = None
    latency_ms: float | None = None
    where: Where | None = None
    pack_tokens: int | None = None

    def check(self) -> None:
        """Raise `UserError` if a value makes no sense."""
        for name in ("top_n", "depth", "pack_tokens"):
            value = getattr(self, name)
            if value is None and name != "top_n":
                continue
            if type(value) is not int:
                raise UserError(f"{name} is {value!r}, must be a whole number")
            if value < 1:
                raise UserError(f"{name} is {value}, must be at least 1")
        if self.min_score is not None and not (_is_number(self.min_score) and 0 <= self.min_score <= 1):
            raise UserError(
                f"min_score is {self.min_score!r}, must be a number from 0 to 1: it is that of a probability"
            )
        if self.latency_ms is not None and not (_is_number(self.latency_ms) and self.latency_ms > 0):
            raise UserError(f"latency_ms is {self.latency_ms!r}, must be a number of milliseconds above 0")

    def check_batch(self) -> None:
        """Raise `UserError` if they are not those of several searches at once."""
        if self.latency_ms is not None:
            raise UserError("latency_ms is the budget of one search: leave it out, or search one by one")


def check_text(query: object) -> None:
    """Raise `UserError` if a query is no text that can be searched."""
    if not isinstance(query, str):
        raise UserError(f"the query must be a text, not {query!r:.80}")
    if not query.strip():
        raise UserError("the query is empty: give at least one word")
    if not query.isascii() and SURROGATE.search(query):
        raise UserError("the query holds half a surrogate pair, which is no character: leave it out")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
