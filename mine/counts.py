"""What the manifest says of training lists: how many there are, what they lack, and what each rule did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from secondstage.lists import DROPPED, FROM_QRELS, IGNORED, NEGATIVE, POSITIVE, Candidate, TrainingList

from .decisions import FALSE_NEGATIVE_RULES


def count(lists: Iterable[TrainingList], negatives: int) -> dict[str, int]:
    """Counts by name, sorted; those of several parts add up to those of the whole.

    `lists` are those that can be trained on, with a positive and a negative. `negatives_found` are all that the first
    stage found beside the positives that people judged, whatever became of them. What a rule made of them is counted as
    `relabelled_…`, `ignored_…` and `dropped_…` with its decision, only where there are any.

    Args:
        lists: with every candidate, also those that were dropped.
        negatives: as many as were asked for in each list.
    """
    counts: Counter[str] = Counter(dict.fromkeys(ALWAYS, 0))
    for training_list in lists:
        positives, kept = (len(training_list.with_role(role)) for role in (POSITIVE, NEGATIVE))
        counts["lists"] += bool(positives and kept)
        counts["lists_without_positives"] += not positives
        counts["lists_without_negatives"] += not kept
        counts["lists_short_of_negatives"] += 0 < kept < negatives
        counts["positives"] += positives
        counts["negatives_kept"] += kept
        for candidate in training_list.candidates:
            counts.update(_names(candidate))
    return dict(sorted(counts.items()))


ALWAYS = (
    "lists",
    "lists_without_positives",
    "lists_without_negatives",
    "lists_short_of_negatives",
    "positives",
    "positives_missed_by_first_stage",
    "negatives_found",
    "negatives_kept",
)


def _names(candidate: Candidate) -> Iterable[str]:
    decision = candidate.decision.replace(" ", "_")
    relabelled = candidate.role == POSITIVE and candidate.decision in FALSE_NEGATIVE_RULES
    if candidate.rank and (relabelled or candidate.role != POSITIVE):
        yield "negatives_found"
    if candidate.role == POSITIVE and candidate.retriever == FROM_QRELS:
        yield "positives_missed_by_first_stage"
    if relabelled:
        yield f"relabelled_{decision}"
    if candidate.role in (IGNORED, DROPPED):
        yield f"{candidate.role}_{decision}"
