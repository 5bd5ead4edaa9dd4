"""What training and dev give away of a test set, and the figures on the rest of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from secondstage.config import EvaluateConfig
from secondstage.leakage import Kind, Level, count, leaking

from .queries import QuerySet
from .standing import Standing, part

KINDS: tuple[Kind, ...] = get_args(Kind)
LEVELS: tuple[Level, ...] = get_args(Level)
# Of each kind.
EXAMPLES = 5


def leakage(
    tested: QuerySet, values: Standing, texts: Mapping[str, str], config: EvaluateConfig, *, seed: int
) -> dict[str, Any]:
    """Leaks counted, some of each kind shown, and the figures without them, with and without shared documents.

    Args:
        tested: the test set and its leaks.
        values: of every system.
        texts: by query id, also of the queries that training met.
        config: of the statistics.
        seed: of the resampling.
    """
    free = {
        level: [query_id for query_id in tested.queries if query_id not in given_away]
        for level in LEVELS
        for given_away in [leaking(tested.leaks, level)]
    }
    return {
        "against": list(tested.against),
        "counts": count(tested.leaks),
        "free_of": {level: len(query_ids) for level, query_ids in free.items()},
        "free": part(values, free["documents"], config, seed=seed),
        "free_of_text": part(values, free["queries"], config, seed=seed),
        "examples": [
            {
                "query_id": leak.query_id,
                "query": tested.queries[leak.query_id],
                "kind": leak.kind,
                "split": leak.split,
                "other_id": leak.other_id,
                "other": texts[leak.other_id] if leak.kind != "document" else "",
            }
            for kind in KINDS
            for leak in [leak for leak in tested.leaks if leak.kind == kind][:EXAMPLES]
        ],
    }
