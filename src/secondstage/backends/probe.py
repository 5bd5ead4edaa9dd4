"""Pairs that engines are measured on, of lengths that searches have."""

from __future__ import annotations

_QUERIES = (
    "how do I return an item that I bought online",
    "symptoms of a low iron level",
    "read a large file line by line",
    "which visa do I need for a stay of three months",
)
_SENTENCES = (
    "An item can be returned within thirty days; the refund goes to the card that it was paid with.",
    "Tiredness, pale skin and shortness of breath are common where iron is low, and a blood test tells.",
    "Iterating over an open file gives one line at a time, so that memory stays small however large the file is.",
    "For visits of up to ninety days no visa is needed; whoever stays longer applies at the consulate.",
    "The office is open from nine to five on weekdays and closed on public holidays.",
    "Send the form with a copy of your receipt, and keep the original until you have an answer.",
    "Results vary with age, diet and medication: ask your doctor before you change a dose.",
    "If the argument is negative, or the stream was closed, an exception is raised.",
)


def _document(number: int) -> str:
    """Two to nine sentences, from another start each time: some forty to two hundred tokens."""
    return " ".join(_SENTENCES[(number + step) % len(_SENTENCES)] for step in range(2 + number % 8))


PROBE_PAIRS = tuple((_QUERIES[i % len(_QUERIES)], _document(i)) for i in range(32))
