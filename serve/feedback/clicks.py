"""What clicks say: a clicked document was preferred to those above it that were passed over, and nothing more.

People click what stands high, so that a click by itself says little (Joachims 2002, "Optimizing search engines using
clickthrough data"; Joachims et al. 2005, skip above). The first result, clicked, says nothing at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from typing import NamedTuple

Pair = tuple[str, str]


class Preferred(NamedTuple):
    """What the clicks of one query come to.

    Attributes:
        positives: document ids that were preferred to others, and none to them.
        negatives: those passed over for one of these, and preferred to none.
        undecided: the others that there is evidence about: it contradicts itself, or some stand between.
    """

    positives: frozenset[str] = frozenset()
    negatives: frozenset[str] = frozenset()
    undecided: frozenset[str] = frozenset()


def skipped_above(shown: Sequence[str], clicked: Set[str]) -> list[Pair]:
    """(clicked, passed over) for every clicked document and every other one that was shown above it.

    Args:
        shown: document ids in the order of the page.
        clicked: some of them; others are passed over.
    """
    return [
        (doc_id, above)
        for rank, doc_id in enumerate(shown)
        if doc_id in clicked
        for above in shown[:rank]
        if above not in clicked
    ]


def preferred(evidence: Iterable[Pair], *, judged: Container[str] = (), least: int = 1) -> Preferred:
    """Weigh the pairs of all searches of one query.

    A pair counts if it was seen at least `least` times more often than its opposite.

    Args:
        evidence: pairs as of `skipped_above`.
        judged: documents that a person judged, whose word counts more: they are in no pair.
        least: at least 1.
    """
    counts: Counter[Pair] = Counter(pair for pair in evidence if pair[0] not in judged and pair[1] not in judged)
    kept = [(better, worse) for (better, worse), count in counts.items() if count - counts[worse, better] >= least]
    winners, losers = {better for better, _ in kept}, {worse for _, worse in kept}
    positives = winners - losers
    negatives = {worse for better, worse in kept if better in positives} - winners
    known = {doc_id for pair in counts for doc_id in pair}
    return Preferred(frozenset(positives), frozenset(negatives), frozenset(known - positives - negatives))


def evidence(shown: Mapping[str, Sequence[str]], clicked: Mapping[str, Set[str]]) -> list[Pair]:
    """The pairs of several searches, both by search id; searches that nobody knows the list of have none."""
    return [pair for search_id, docs in clicked.items() for pair in skipped_above(shown.get(search_id, ()), docs)]
