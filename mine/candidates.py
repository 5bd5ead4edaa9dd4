"""The candidates of one query: what the first stage found, with what the qrels say of it."""

from __future__ import annotations

from collections.abc import Mapping

from secondstage.lists import NEGATIVE, POSITIVE, Candidate
from secondstage.run import Ranking


def label(ranking: Ranking, judged: Mapping[str, int]) -> list[Candidate]:
    """Turn a ranking into candidates, best first, followed by the positives that the first stage missed.

    A document judged relevant is a positive. Everything else is a negative; whether a person judged it so is kept in
    `judged`.

    Args:
        ranking: the first stage's list.
        judged: relevance by document id.
    """
    candidates = [
        Candidate(
            doc_id,
            relevance=judged.get(doc_id, 0),
            judged=doc_id in judged,
            retriever=retriever,
            rank=i,
            score=float(score),
            role=POSITIVE if judged.get(doc_id, 0) > 0 else NEGATIVE,
        )
        for i, (doc_id, score, retriever) in enumerate(zip(*ranking, strict=True), 1)
    ]
    found = set(ranking.doc_ids)
    candidates += [
        Candidate(doc_id, relevance, judged=True, retriever="qrels", rank=0, score=0.0, role=POSITIVE)
        for doc_id, relevance in judged.items()
        if relevance > 0 and doc_id not in found
    ]
    return candidates
