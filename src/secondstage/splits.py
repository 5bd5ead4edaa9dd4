"""Which queries go where: the cut of a split, and a choice of some that only the seed and the ids decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .collection import Qrels
from .duplicates import normalise
from .files import fingerprint


def cut_split(
    splits: dict[str, Qrels], name: str, share: float, seed: int, texts: Mapping[str, str] | None = None
) -> list[str]:
    """Move `share` of the training queries to a new split, if there is none so named; return what was done, in words.

    Queries of the same words stay together. So do those that share a positive document, so that no training positive is
    one of the new split, unless the queries are so entangled that this leaves less than half the share. The cut depends
    on the seed, the ids and which of them have the same words, not on their order.

    Args:
        splits: judgements by split; `train` loses what the new one gains.
        name: of the new split.
        share: of the training queries.
        seed: of the choice.
        texts: of the queries by id; without them no two have the same words.
    """
    train = splits.get("train", {})
    if name in splits or len(train) < 2 or share <= 0:
        return []
    wanted = min(max(1, round(share * len(train))), len(train) - 1)
    # The words of a query are as if they were a document, named as none is.
    words = {query_id: normalise(texts[query_id]) for query_id in train} if texts else {}
    same: Qrels = {query_id: {f"\0{words[query_id]}": 1} if words.get(query_id) else {} for query_id in train}
    both = {query_id: {**judged, **same[query_id]} for query_id, judged in train.items()}
    cut, note = _take(group_queries(both), wanted, seed), "none shares a relevant document with train"
    if 2 * len(cut) < wanted:
        cut, note = _take(group_queries(same), wanted, seed), "some share relevant documents with train"
    splits[name] = {query_id: train[query_id] for query_id in sorted(cut)}
    splits["train"] = {query_id: judged for query_id, judged in train.items() if query_id not in cut}
    return [f"no {name} split: {len(cut)} of {len(train)} training queries were cut for it (seed {seed}); {note}"]


def _take(groups: Iterable[list[str]], wanted: int, seed: int) -> set[str]:
    """Whole groups in an order decided by the seed, as long as they fit into `wanted` query ids."""
    taken: set[str] = set()
    for group in sorted(groups, key=lambda ids: fingerprint(seed, ids[0])):
        if len(taken) + len(group) <= wanted:
            taken.update(group)
    return taken


def answerable(qrels: Qrels) -> Qrels:
    """The queries that have a relevant document."""
    return {query_id: judged for query_id, judged in qrels.items() if any(r > 0 for r in judged.values())}


def choose_queries(query_ids: Iterable[str], count: int | None, seed: int) -> list[str]:
    """Up to `count` query ids, chosen by the seed and the ids alone, in the order given; none means all."""
    query_ids = list(query_ids)
    if count is None or len(query_ids) <= count:
        return query_ids
    chosen = set(sorted(query_ids, key=lambda query_id: fingerprint(seed, query_id))[:count])
    return [query_id for query_id in query_ids if query_id in chosen]


def choose_answerable(qrels: Qrels, count: int | None, seed: int) -> Qrels:
    """The judgements of up to `count` queries that have a relevant document; none means all."""
    relevant = answerable(qrels)
    return {query_id: relevant[query_id] for query_id in choose_queries(relevant, count, seed)}


def group_queries(qrels: Qrels) -> list[list[str]]:
    """Group query ids that share a relevant document, directly or through others; ids and groups are sorted."""
    from scipy.cluster.hierarchy import DisjointSet

    groups, first_with = DisjointSet(qrels), dict[str, str]()
    for query_id, judged in qrels.items():
        for doc_id, relevance in judged.items():
            if relevance > 0:
                groups.merge(query_id, first_with.setdefault(doc_id, query_id))
    return sorted(map(sorted, groups.subsets()))
