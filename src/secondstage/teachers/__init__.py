"""Teachers: slow, strong models that score every candidate of a training list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..run import Scores


class Teacher(Protocol):
    """Whatever orders the candidates of a query: a cross-encoder, a decoder, a listwise LLM, an API."""

    def score_lists(self, lists: Sequence[tuple[str, Sequence[str]]], *, label: str | None = None) -> list[Scores]:
        """Score the documents of every query.

        Args:
            lists: (query text, document texts) of each list.
            label: shows a progress bar under this name.

        Returns:
            For each list `[documents]` scores in its order: higher is more relevant. Scores of different lists need not
            be on one scale.

        Raises:
            UserError: the teacher cannot be reached, or gave no usable answer.
        """
        ...

    def report(self) -> Mapping[str, Any]:
        """What it cost so far: pairs scored, requests, tokens, price, seconds; for the manifest."""
        ...
