"""Folds of the training queries, where labels are few: each is dev once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from secondstage.collection import Qrels
from secondstage.duplicates import near_duplicates, normalise, shingles
from secondstage.errors import UserError
from secondstage.files import fingerprint
from secondstage.lists import POSITIVE, TrainingList
from secondstage.run import Ranking, Run, rank
from secondstage.splits import group_queries

from .selection import Selection, Texts

# Texts that are compared one by one: an index pays only for more.
PAIRWISE = 32
NEAR = 0.8


def make_folds(
    lists: Sequence[TrainingList], queries: Mapping[str, str], count: int, seed: int
) -> tuple[list[list[str]], str]:
    """Divide queries into folds of nearly the same size, by the seed and the ids alone.

    Queries that share a relevant document or nearly their text stay in one fold. Where they are so entangled that a
    fold would be less than half of its size, only those of nearly the same text do; else none.

    Args:
        lists: the training lists.
        queries: texts by query id.
        count: of folds, 2 at least.
        seed: of the order.

    Returns:
        The query ids of each fold, sorted; and in words what the folds still share.

    Raises:
        UserError: there are fewer lists than two a fold.
    """
    if count < 2 or len(lists) < 2 * count:
        raise UserError(
            f"train.folds={count} of {len(lists)} training lists: want 2 folds at least, and 2 lists in each; "
            "train.folds=0 trains without"
        )
    positives: Qrels = {x.query_id: {c.doc_id: 1 for c in x.with_role(POSITIVE)} for x in lists}
    ids = sorted(positives)
    # Queries of nearly the same text are as if they shared a document, named as no document is.
    texts: Qrels = {query_id: {} for query_id in ids}
    for i, j in _alike([normalise(queries[query_id]) for query_id in ids], range(len(ids))):
        texts[ids[i]][f"\0{i} {j}"] = texts[ids[j]][f"\0{i} {j}"] = 1
    both = {query_id: {**positives[query_id], **texts[query_id]} for query_id in ids}
    for links, note in (
        (both, "no two share a relevant document or nearly a text"),
        (texts, "some share relevant documents"),
    ):
        folds = _deal(group_queries(links), count, seed)
        if 2 * min(map(len, folds)) * count >= len(ids):
            return folds, note
    return _deal([[query_id] for query_id in ids], count, seed), "some share relevant documents or nearly their texts"


def _deal(groups: Sequence[list[str]], count: int, seed: int) -> list[list[str]]:
    """Give out whole groups, the largest first, each to the smallest fold."""
    folds: list[list[str]] = [[] for _ in range(count)]
    for group in sorted(groups, key=lambda ids: (-len(ids), fingerprint(seed, ids[0]))):
        min(folds, key=len).extend(group)
    return [sorted(fold) for fold in folds]


def _alike(texts: Sequence[str], rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs of rows whose texts are near-duplicates: of many alike enough of them to connect nearly all.

    The halves are compared with each other, in both directions, then each with itself.
    """
    if len(rows) <= PAIRWISE:
        grams = {row: shingles(texts[row]) for row in rows}
        for i, j in combinations(rows, 2):
            if len(grams[i] & grams[j]) >= NEAR * len(grams[i] | grams[j]):
                yield i, j
        return
    halves = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    for left, right in (halves, halves[::-1]):
        for i, j, _ in near_duplicates([texts[row] for row in left], [texts[row] for row in right], NEAR):
            yield left[i], right[j]
    for half in halves:
        yield from _alike(texts, half)


def held_out(lists: Sequence[TrainingList], texts: Texts, *, depth: int) -> Selection:
    """The dev of a fold: what the first stage found for its queries, as their training lists tell.

    Candidates of all roles count, in the order of their ranks. Relevant is what is judged so, as on dev; of a query
    without a judgement, a synthetic one, its positives are.

    Args:
        lists: of the fold.
        texts: of queries and documents.
        depth: candidates of each query.
    """
    rankings: dict[str, Ranking] = {}
    qrels: Qrels = {}
    for found in lists:
        ranked = sorted((c for c in found.candidates if c.rank > 0), key=lambda c: c.rank)[:depth]
        rankings[found.query_id] = rank(
            [c.doc_id for c in ranked], [-float(c.rank) for c in ranked], [c.retriever for c in ranked]
        )
        judged = {c.doc_id: c.relevance for c in found.candidates if c.judged and c.relevance > 0}
        qrels[found.query_id] = judged or {c.doc_id: max(1, c.relevance) for c in found.with_role(POSITIVE)}
    return Selection(Run("first_stage", rankings), qrels, texts)
