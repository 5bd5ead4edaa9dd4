"""Queries that say the same: of each group that repeats one another, the first is kept."""

from __future__ import annotations

from collections.abc import Sequence

from secondstage.duplicates import near_duplicates, normalise, shingles

# Texts that are compared one by one: an index pays only for more.
FEW = 32


def repeats(texts: Sequence[str], threshold: float) -> dict[int, int]:
    """The texts that nearly repeat an earlier one that is kept, each with that one, by index.

    The first text is kept, and each further one that is less similar than `threshold` (the Jaccard coefficient of
    `near_duplicates`) to all that were kept before.
    """
    return _repeats([normalise(text) for text in texts], list(range(len(texts))), threshold)[1]


def _repeats(texts: Sequence[str], rows: Sequence[int], threshold: float) -> tuple[list[int], dict[int, int]]:
    """Which of the rows are kept, and which repeat one of these.

    The second half is compared with what is kept of the first, then with itself: as one after the other, in few steps.
    """
    if len(rows) <= FEW:
        return _one_by_one(texts, rows, threshold)
    kept, repeated = _repeats(texts, rows[: len(rows) // 2], threshold)
    second = rows[len(rows) // 2 :]
    found = near_duplicates([texts[row] for row in second], [texts[row] for row in kept], threshold)
    repeated |= {second[left]: kept[right] for left, right, _ in found}
    further, more = _repeats(texts, [row for row in second if row not in repeated], threshold)
    return kept + further, repeated | more


def _one_by_one(texts: Sequence[str], rows: Sequence[int], threshold: float) -> tuple[list[int], dict[int, int]]:
    kept: dict[int, set[str]] = {}
    repeated: dict[int, int] = {}
    for row in rows:
        own = shingles(texts[row])
        alike = {other: len(own & grams) / len(own | grams) for other, grams in kept.items()}
        nearest = max(alike, key=lambda other: alike[other], default=None)
        if nearest is not None and alike[nearest] >= threshold:
            repeated[row] = nearest
        else:
            kept[row] = own
    return list(kept), repeated
