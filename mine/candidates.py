"""The candidates of one query: what was found, with what people say of it, and the scores that are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from typing import Literal

import numpy as np

from secondstage.lists import FROM_CORPUS, FROM_QRELS, NEGATIVE, POSITIVE, Candidate
from secondstage.run import Ranking

from .decisions import QRELS, REVIEW

Whose = Literal["first_stage", "teacher"]
Found = tuple[str, str, int, float]


def label(
    ranking: Ranking,
    judged: Mapping[str, int],
    *,
    positive_from: int = 1,
    reviewed: Mapping[str, int] | None = None,
    drawn: Sequence[str] = (),
) -> list[Candidate]:
    """All candidates of a query: the ranking, best first, the positives that it misses, and random documents.

    A document judged `positive_from` or higher is a positive, all else a negative, whose decision is still open; only
    a negative that a review judged irrelevant is decided.

    Args:
        ranking: the first stage's list.
        judged: relevance by document id, from the qrels.
        positive_from: the lowest relevance of a positive.
        reviewed: relevance by document id, where a person looked again: it replaces that of the qrels.
        drawn: documents drawn from the corpus; those that are candidates anyway are passed over.
    """
    reviewed = reviewed or {}
    judged = {**judged, **reviewed}
    positives = [doc_id for doc_id, relevance in judged.items() if relevance >= positive_from]
    found: Iterable[Found] = chain(
        ((*row, float(score)) for row, score in zip(_rows(ranking), ranking.scores, strict=True)),
        ((doc_id, FROM_QRELS, 0, 0.0) for doc_id in positives),
        ((doc_id, FROM_CORPUS, 0, 0.0) for doc_id in drawn),
    )
    candidates: dict[str, Candidate] = {}
    for doc_id, retriever, rank, score in found:
        relevance = judged.get(doc_id, 0)
        role = POSITIVE if relevance >= positive_from else NEGATIVE
        decision = _decision(role, relevance, doc_id in reviewed)
        candidate = Candidate(doc_id, relevance, doc_id in judged, retriever, rank, score, role, decision)
        candidates.setdefault(doc_id, candidate)
    return list(candidates.values())


def _rows(ranking: Ranking) -> Iterator[tuple[str, str, int]]:
    for rank, (doc_id, retriever) in enumerate(zip(ranking.doc_ids, ranking.retrievers, strict=True), 1):
        yield doc_id, retriever, rank


def _decision(role: str, relevance: int, reviewed: bool) -> str:
    if reviewed and (role == POSITIVE or relevance <= 0):
        return REVIEW
    return QRELS if role == POSITIVE else ""


def known_scores(candidates: Iterable[Candidate], whose: Whose) -> dict[str, float]:
    """The scores by document id: the first stage gives none to what it did not find, a teacher may lack some."""
    if whose == "teacher":
        return {c.doc_id: c.teacher_score for c in candidates if c.teacher_score is not None}
    return {c.doc_id: c.score for c in candidates if c.rank}


def draw_random(count: int, doc_ids: Sequence[str], exclude: Set[str], rng: np.random.Generator) -> list[str]:
    """Up to `count` different documents of the corpus, in random order, every one as likely.

    Args:
        count: fewer are drawn only where the corpus has no more.
        doc_ids: of the whole corpus.
        exclude: what must not be drawn: positives, and what is a candidate already.
        rng: `generator(seed, query_id, "random")`, so that no other draw is moved.
    """
    if not count:
        return []
    # Even if everything that is excluded is among them, enough is left; the corpus itself is never copied.
    size = min(len(doc_ids), count + len(exclude))
    rows: list[int] = rng.choice(len(doc_ids), size, replace=False).tolist()
    return [doc_ids[row] for row in rows if doc_ids[row] not in exclude][:count]
