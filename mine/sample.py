"""Choose some of many negatives, the same ones for the same seed, whatever the order of the queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from secondstage.config import MineConfig
from secondstage.files import fingerprint
from secondstage.lists import FROM_CORPUS, Candidate

from .candidates import known_scores

# Parts of equal width that a stratified sample goes through in turn.
STRATA = 8

Sampler = Callable[[Sequence[Candidate], int, Mapping[str, float], np.random.Generator], Sequence[Candidate]]
"""From (negatives, the hardest first; how many, fewer than there are; scores by document id; generator) to a choice."""


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator of its own for each name (e.g. a query id): what one query draws does not move what another does."""
    return np.random.default_rng(int(fingerprint(seed, *names)[:16], 16))


def choose(negatives: Sequence[Candidate], config: MineConfig, count: int, rng: np.random.Generator) -> set[str]:
    """The ids of up to `count` negatives, never more than there are of a kind.

    Of `config.negatives`, `random_share` is for documents drawn from the corpus, which are taken in their order, the
    rest for those that were found. Where one kind falls short the other does not take its place.

    Of `config.negatives`, each quota is for negatives that its retriever found: "bm25+dense" counts for either. The
    quotas are filled one after the other; what a retriever cannot fill goes to the rest, which the sampler chooses
    from all that are left.

    Args:
        negatives: of one query, none of them forbidden, the first stage's in its order.
        config: count, sampler, shares and whose scores these look at.
        count: at most, where some of `config.negatives` are decided already.
        rng: of the query.
    """
    # A run may call itself by any name: what was drawn has no rank.
    drawn = [candidate.doc_id for candidate in negatives if candidate.retriever == FROM_CORPUS and not candidate.rank]
    drawn = drawn[: min(count, random_count(config))]
    scores = known_scores(negatives, config.scores)
    found = [candidate for candidate in negatives if candidate.rank or candidate.retriever != FROM_CORPUS]
    # Without a score a negative counts as the easiest. The sort is stable: ties keep the first stage's order.
    found.sort(key=lambda candidate: -scores.get(candidate.doc_id, -np.inf))
    room = min(count - len(drawn), config.negatives - random_count(config))
    chosen: set[str] = set()

    def take(pool: Sequence[Candidate], wanted: int) -> None:
        left = [candidate for candidate in pool if candidate.doc_id not in chosen]
        wanted = max(0, min(wanted, room - len(chosen)))
        few = left if len(left) <= wanted else SAMPLERS[config.sampler](left, wanted, scores, rng)
        chosen.update(candidate.doc_id for candidate in few)

    for retriever, share in config.quotas.items():
        pool = [candidate for candidate in found if retriever in candidate.retriever.split("+")]
        there = sum(candidate.doc_id in chosen for candidate in pool)
        take(pool, _part(share, config.negatives) - there)
    take(found, room)
    return chosen.union(drawn)


def random_count(config: MineConfig) -> int:
    """How many of a list's negatives are drawn from the corpus."""
    return _part(config.random_share, config.negatives)


def _part(share: float, count: int) -> int:
    return int(share * count + 0.5)


def top(
    negatives: Sequence[Candidate], count: int, scores: Mapping[str, float], rng: np.random.Generator
) -> Sequence[Candidate]:
    """The hardest."""
    return negatives[:count]


def uniform(
    negatives: Sequence[Candidate], count: int, scores: Mapping[str, float], rng: np.random.Generator
) -> Sequence[Candidate]:
    """Every rank is as likely."""
    return [negatives[i] for i in sorted(rng.choice(len(negatives), count, replace=False))]


def band(
    negatives: Sequence[Candidate], count: int, scores: Mapping[str, float], rng: np.random.Generator
) -> Sequence[Candidate]:
    """Half of them the hardest, half from around the middle of the list (as Ettin's 32 and 32 of 2026)."""
    head = (count + 1) // 2
    middle = max(head, (len(negatives) - (count - head)) // 2)
    return [*negatives[:head], *negatives[middle : middle + count - head]]


def stratified(
    negatives: Sequence[Candidate], count: int, scores: Mapping[str, float], rng: np.random.Generator
) -> Sequence[Candidate]:
    """Evenly over the range of scores: one at random from each part of it in turn, the hardest part first."""
    known = [scores[candidate.doc_id] for candidate in negatives if candidate.doc_id in scores]
    low, high = min(known, default=0.0), max(known, default=0.0)
    parts = min(STRATA, count)

    def stratum(candidate: Candidate) -> int:
        if candidate.doc_id not in scores:
            return parts
        return min(parts - 1, int(parts * (high - scores[candidate.doc_id]) / (high - low))) if high > low else 0

    turns: dict[int, int] = {}
    order: list[tuple[int, int, int]] = []
    for i in rng.permutation(len(negatives)).tolist():
        part = stratum(negatives[i])
        turns[part] = turns.get(part, -1) + 1
        order.append((turns[part], part, i))
    return [negatives[i] for _, _, i in sorted(order)[:count]]


SAMPLERS: Mapping[str, Sampler] = {"top": top, "uniform": uniform, "band": band, "stratified": stratified}
