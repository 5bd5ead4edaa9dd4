"""Candidates that are probably positives nobody labelled: what points to it, and what is done about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from secondstage.collection import Qrels
from secondstage.config import FalseNegativesConfig
from secondstage.duplicates import Pair, question_key
from secondstage.lists import DROPPED, IGNORED, NEGATIVE, POSITIVE, Candidate

from .candidates import known_scores
from .decisions import DUPLICATE, JUDGED, TEACHER
from .policies import Against, near_positive, reference

Evidence = dict[str, int]
"""The relevance that a suspicious candidate would have, by document id."""


def resolve(
    candidates: Sequence[Candidate],
    config: FalseNegativesConfig,
    *,
    against: Against,
    twins: Mapping[Pair, float],
    elsewhere: Mapping[str, int],
) -> list[Candidate]:
    """The same candidates, the suspicious negatives among them with the role and the rule that decided it.

    What people say comes first (judged), then the teacher, then the likeness of texts (duplicate): the first rule that
    finds a candidate and whose action is not "keep" decides. A candidate that a person judged irrelevant is suspicious
    by no other rule than the first, one that a review judged irrelevant by none. Only what nobody judged for this query
    is relabelled: where its own judgement says otherwise, "relabel" makes it "ignore". Of what the teacher finds, only
    the surest are relabelled (`surest`), and the others dropped: a positive that is wrong costs more than a negative
    that is missing.

    Args:
        candidates: the whole list of one query, with the teacher's scores if there is a teacher.
        config: shares and actions.
        against: which of several positives the teacher's score is held against.
        twins: similarity of (positive, candidate) whose texts are near-duplicates, as `near_pairs` gives it.
        elsewhere: positives of training queries with the same text: relevance by document id.
    """
    rules = (
        (JUDGED, config.judged, by_people(candidates, elsewhere)),
        (TEACHER, config.teacher, by_teacher(candidates, config.teacher_share, against)),
        (DUPLICATE, config.duplicate, by_text(candidates, twins)),
    )
    sure = surest(candidates, config.relabel_most)

    def resolved(candidate: Candidate) -> Candidate:
        for rule, action, suspicious in rules:
            if action != "keep" and candidate.doc_id in suspicious:
                unsure = action == "relabel" and rule == TEACHER and candidate.doc_id not in sure
                if action == "drop" or unsure:
                    return candidate._replace(role=DROPPED, decision=rule)
                if action == "ignore" or candidate.judged:
                    return candidate._replace(role=IGNORED, decision=rule)
                return candidate._replace(role=POSITIVE, decision=rule, relevance=suspicious[candidate.doc_id])
        return candidate

    return [resolved(candidate) for candidate in candidates]


def by_people(candidates: Sequence[Candidate], elsewhere: Mapping[str, int]) -> Evidence:
    """Negatives that are positives of the same question elsewhere, or judged relevant, but not relevant enough."""
    negatives = [c for c in candidates if _is_open(c)]
    found = {c.doc_id: c.relevance for c in negatives if c.relevance > 0}
    return found | {c.doc_id: elsewhere[c.doc_id] for c in negatives if c.doc_id in elsewhere}


def by_teacher(candidates: Sequence[Candidate], share: float, against: Against) -> Evidence:
    """Unjudged negatives that the teacher puts near a positive or above it, as relevant as the one it puts nearest."""
    scores = known_scores(candidates, "teacher")
    positives = [c for c in candidates if c.role == POSITIVE and c.doc_id in scores]

    def nearest(score: float) -> Candidate:
        return min(positives, key=lambda positive: abs(scores[positive.doc_id] - score))

    near = near_positive(candidates, scores, share, against)
    return {doc_id: nearest(scores[doc_id]).relevance for doc_id in near}


def surest(candidates: Sequence[Candidate], most: int | None) -> set[str]:
    """Unjudged negatives that the teacher puts above every positive: the `most` with the highest scores, or all.

    Equal scores go by the order of the list.
    """
    scores = known_scores(candidates, "teacher")
    highest = reference(candidates, scores, "max")
    near = near_positive(candidates, scores, 1.0, "max")
    above = [c.doc_id for c in candidates if c.doc_id in near and highest is not None and scores[c.doc_id] > highest]
    ordered = sorted(above, key=lambda doc_id: -scores[doc_id])
    return set(ordered[:most])


def by_text(candidates: Sequence[Candidate], twins: Mapping[Pair, float]) -> Evidence:
    """Unjudged negatives whose text is nearly that of a positive, as relevant as the one they are most like."""
    if not twins:
        return {}
    relevance = {c.doc_id: c.relevance for c in candidates if c.role == POSITIVE}
    found: dict[str, tuple[float, int]] = {}
    for positive, negative in possible_twins(candidates):
        if (positive, negative) in twins:
            likeness = (twins[positive, negative], relevance[positive])
            found[negative] = max(found.get(negative, likeness), likeness)
    return {doc_id: relevant for doc_id, (_, relevant) in found.items()}


def possible_twins(candidates: Sequence[Candidate]) -> Iterator[Pair]:
    """The (positive, candidate) ids whose texts are to be compared, for `near_pairs`."""
    positives = [c.doc_id for c in candidates if c.role == POSITIVE]
    for candidate in candidates:
        if _is_open(candidate) and not candidate.judged:
            yield from ((positive, candidate.doc_id) for positive in positives)


def positives_elsewhere(queries: Mapping[str, str], qrels: Qrels, positive_from: int = 1) -> Qrels:
    """The positives of all queries that ask the same (`question_key`), for each of these, its own among them.

    Args:
        queries: text by query id.
        qrels: of the training queries.
        positive_from: the lowest relevance of a positive.

    Returns:
        Relevance by query id and document id, the highest of several; only queries whose text another one has.
    """
    same_text: dict[str, list[str]] = defaultdict(list)
    for query_id in qrels:
        same_text[question_key(queries[query_id])].append(query_id)
    found: Qrels = {}
    for query_ids in same_text.values():
        if len(query_ids) > 1:
            judged = [item for query_id in query_ids for item in qrels[query_id].items()]
            # Sorted by relevance, so that the highest stays.
            together = dict(sorted((item for item in judged if item[1] >= positive_from), key=lambda item: item[1]))
            found.update(dict.fromkeys(query_ids, together))
    return found


def _is_open(candidate: Candidate) -> bool:
    return candidate.role == NEGATIVE and not candidate.decision
