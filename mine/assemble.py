"""One training list: every candidate of a query with its role, and the word for why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from secondstage.config import MineConfig
from secondstage.duplicates import Pair
from secondstage.lists import DROPPED, NEGATIVE, Candidate, TrainingList

from .decisions import NOT_SAMPLED, SAMPLED
from .falsenegatives import resolve
from .policies import forbidden
from .sample import choose, generator

TeacherScores = tuple[float | None, tuple[float | None, ...]]
"""Of one document: the teachers' together, and each one's in the order of `config.teachers`; finite, or none."""


def assemble(
    query_id: str,
    candidates: Sequence[Candidate],
    config: MineConfig,
    *,
    seed: int,
    teacher: Mapping[str, TeacherScores] | None = None,
    twins: Mapping[Pair, float] | None = None,
    elsewhere: Mapping[str, int] | None = None,
) -> TrainingList:
    """Decide what each candidate of a query is for.

    First the rules against false negatives, then the policies, then the sampler: the first that speaks decides, and its
    word is the candidate's decision. Negatives that a review confirmed are all kept; they count among
    `config.negatives`. Where fewer are left than are asked for the list is short: nothing is filled up.

    Policies and rules hold candidates against the positives that people judged, not against those that a rule has just
    made: what one rule gets wrong does not move the next.

    Args:
        query_id: also the name of its draws.
        candidates: of `label`, each document once.
        config: every rule, and the number of negatives.
        seed: of the draws, which depend on nothing but it, the query id and the candidates.
        teacher: scores by document id; what could not be scored may be left out.
        twins: similarity of (positive id, candidate id) with nearly the same text, as `near_pairs` gives it for
            `possible_twins(candidates)`.
        elsewhere: relevance by document id of the positives of other training queries that ask the same.

    Returns:
        All candidates, in their order.
    """
    candidates = with_teacher(candidates, teacher or {}, len(config.teachers))
    policies = forbidden(candidates, config)
    resolved = resolve(
        candidates, config.false_negatives, against=config.against, twins=twins or {}, elsewhere=elsewhere or {}
    )
    pool = [c for c in resolved if c.role == NEGATIVE and not c.decision and c.doc_id not in policies]
    reviewed = sum(c.role == NEGATIVE and bool(c.decision) for c in resolved)
    chosen = choose(pool, config, max(0, config.negatives - reviewed), generator(seed, query_id))

    def decided(candidate: Candidate) -> Candidate:
        if candidate.decision:
            return candidate
        if candidate.doc_id in chosen:
            return candidate._replace(decision=SAMPLED)
        return candidate._replace(role=DROPPED, decision=policies.get(candidate.doc_id, NOT_SAMPLED))

    return TrainingList(query_id, tuple(map(decided, resolved)))


def with_teacher(candidates: Sequence[Candidate], scores: Mapping[str, TeacherScores], count: int) -> list[Candidate]:
    """The candidates with what `count` teachers gave them: none where one gave nothing."""
    if not count:
        return list(candidates)
    unscored: TeacherScores = (None, (None,) * count)
    scored = []
    for candidate in candidates:
        together, single = scores.get(candidate.doc_id, unscored)
        scored.append(candidate._replace(teacher_score=together, teacher_scores=single))
    return scored
