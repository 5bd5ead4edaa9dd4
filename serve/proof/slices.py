"""Slices of a test set: the parts on which the systems are reported apart, as a mean hides who loses."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from secondstage.collection import Documents
from secondstage.duplicates import normalise
from secondstage.run import Ranking, Run

Slices = dict[str, dict[str, list[str]]]
"""Query ids by slice and by value; within a slice every query has one value."""
LENGTHS = {"1 to 3 words": 3, "4 to 7 words": 7, "8 to 15 words": 15}
LONGEST = "16 or more words"
MARGINS = ("unsure", "middling", "sure")
MARGIN_DEPTH = 10
# Margins are compared to so many decimals: the run's own way to part ties, by one unit in the last place, is no margin.
MARGIN_DECIMALS = 4
UNKNOWN, RARE, COMMON = "a word not in the corpus", "a rare word", "common words"
RARE_SHARE = 0.0005


def slices(queries: Mapping[str, str], first: Run, documents: Documents, synthetic: Collection[str]) -> Slices:
    """Part the queries by what can be known of them before any judgement.

    - "query length": words between white space.
    - "first-stage margin": terciles of `margin` over these queries, "unsure" to "sure"; equal margins stay together.
    - "rare words": by the word of the query that the fewest documents hold: no document ("a word not in the corpus"; a
      query without any word, too), at most 0.05 % of the documents, but at least one may ("a rare word"), or more.
    - "origin": "synthetic" or "human".

    Args:
        queries: text by query id, of the test queries alone.
        first: the first stage's run; a query it does not answer has margin 0.
        documents: the corpus.
        synthetic: ids of the queries that no person typed.

    Returns:
        Query ids, in the order of `queries`, by slice and value. Values without queries are left out, and so are slices
        of a single value: they tell nothing.
    """
    margins = {query_id: margin(first[query_id]) if query_id in first else 0.0 for query_id in queries}
    ordered = sorted(margins.values())
    frequencies = document_frequencies(documents, {word for text in queries.values() for word in _words(text)})
    most = max(1.0, RARE_SHARE * len(documents))
    values = {
        "query length": ((*LENGTHS, LONGEST), {i: _length(text) for i, text in queries.items()}),
        "first-stage margin": (MARGINS, {i: _tercile(margins[i], ordered) for i in queries}),
        "rare words": ((UNKNOWN, RARE, COMMON), {i: _rarity(text, frequencies, most) for i, text in queries.items()}),
        "origin": (("human", "synthetic"), {i: "synthetic" if i in synthetic else "human" for i in queries}),
    }
    parted = {name: _group(order, value_of) for name, (order, value_of) in values.items()}
    return {name: groups for name, groups in parted.items() if len(groups) > 1}


def margin(ranking: Ranking) -> float:
    """How far the first document stands out among the top 10, whatever the scale of the scores.

    Returns:
        (first score - second) / (first - last of the top 10), in [0, 1]; 0 for fewer than two documents and for a list
        of ties.
    """
    scores = ranking.scores[:MARGIN_DEPTH].astype(np.float64)
    # A run lowers each tie by one unit in the last place.
    tied = MARGIN_DEPTH * float(np.spacing(np.abs(ranking.scores[:MARGIN_DEPTH]).max(initial=0)))
    if len(scores) < 2 or scores[0] - scores[-1] < tied:
        return 0.0
    return round(float((scores[0] - scores[1]) / (scores[0] - scores[-1])), MARGIN_DECIMALS)


def document_frequencies(documents: Documents, words: Collection[str], limit: int = 100_000) -> dict[str, int]:
    """How many documents hold each word, both normalised (`normalise`), in one pass over the corpus.

    Args:
        documents: the corpus.
        words: what is counted, normalised.
        limit: of a corpus of more documents, so many are read, evenly spaced, and the counts are scaled up; 0 then
            means that none of these holds the word.

    Returns:
        A count for every word asked.
    """
    wanted, total = set(words), len(documents)
    found: Counter[str] = Counter()
    read = min(total, limit)
    rows: Iterable[int] = (i * total // limit for i in range(limit))
    for document in documents if total <= limit else map(documents.__getitem__, rows):
        found.update(wanted.intersection(_words(document.content)))
    return {word: round(found[word] * total / read) if read else 0 for word in words}


def _words(text: str) -> list[str]:
    return normalise(text).split()


def _length(text: str) -> str:
    words = len(text.split())
    return next((value for value, most in LENGTHS.items() if words <= most), LONGEST)


def _tercile(value: float, ordered: list[float]) -> str:
    """By the share of values below this one, so that equal ones are never parted."""
    return MARGINS[len(MARGINS) * bisect_left(ordered, value) // len(ordered)]


def _rarity(text: str, frequencies: Mapping[str, int], most: float) -> str:
    fewest = min((frequencies[word] for word in _words(text)), default=0)
    return COMMON if fewest > most else RARE if fewest else UNKNOWN


def _group(order: Iterable[str], value_of: Mapping[str, str]) -> dict[str, list[str]]:
    groups = {value: [query_id for query_id, own in value_of.items() if own == value] for value in order}
    return {value: query_ids for value, query_ids in groups.items() if query_ids}
