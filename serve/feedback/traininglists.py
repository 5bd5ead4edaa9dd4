"""Training lists from what people said: the first stage's candidates, with the roles that there is evidence for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from secondstage.lists import FROM_QRELS, IGNORED, NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.run import Ranking

from .labels import Labels

# Why a candidate has its role.
JUDGED, CLICKED, SKIPPED, UNDECIDED, UNSEEN = "judged", "clicked", "skipped", "undecided", "unseen"


def training_list(labels: Labels, ranking: Ranking | None) -> TrainingList:
    """The list of one query.

    Judged relevant or preferred by clicks: positive. Judged irrelevant or passed over: negative. All else is ignored,
    masked in the loss: nobody looked at it, or its clicks contradict each other.

    Args:
        labels: what was said of it.
        ranking: what the first stage finds now; none where it cannot be asked. What it misses comes last.
    """
    found = _found(ranking)
    said = [*labels.judged, *sorted(labels.clicks.positives | labels.clicks.negatives)]
    missed = {doc_id: (FROM_QRELS, 0, 0.0) for doc_id in said if doc_id not in found}
    candidates = (_candidate(doc_id, labels, *where) for doc_id, where in (*found.items(), *missed.items()))
    return TrainingList(labels.query_id, tuple(candidates))


def _found(ranking: Ranking | None) -> Mapping[str, tuple[str, int, float]]:
    return dict(_rows(ranking)) if ranking else {}


def _rows(ranking: Ranking) -> Iterator[tuple[str, tuple[str, int, float]]]:
    for rank, (doc_id, score, retriever) in enumerate(zip(*ranking, strict=True), 1):
        yield doc_id, (retriever, rank, float(score))


def _candidate(doc_id: str, labels: Labels, retriever: str, rank: int, score: float) -> Candidate:
    relevance = labels.relevance.get(doc_id, 0)
    role, decision = _role(doc_id, labels)
    return Candidate(doc_id, relevance, doc_id in labels.relevance, retriever, rank, score, role, decision)


def _role(doc_id: str, labels: Labels) -> tuple[str, str]:
    if doc_id in labels.judged:
        return (POSITIVE if labels.judged[doc_id] > 0 else NEGATIVE), JUDGED
    for documents, role, decision in (
        (labels.clicks.positives, POSITIVE, CLICKED),
        (labels.clicks.negatives, NEGATIVE, SKIPPED),
        (labels.clicks.undecided, IGNORED, UNDECIDED),
    ):
        if doc_id in documents:
            return role, decision
    return IGNORED, UNSEEN
