"""The audit: what was kept, what was left out and by which rule, and how the scores of the two lie."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from secondstage.lists import NEGATIVE, POSITIVE, ROLES, Candidate, TrainingList

from .agreement import Agreement
from .distribution import BINS, Histogram, bin_of, scaled
from .suspicion import Suspects, is_labelled

# The last rank of each band.
BANDS = (1, 3, 10, 20, 50, 100)
FIRST_STAGE, TEACHER = "first_stage", "teacher"


def audit(
    lists: Iterable[TrainingList],
    *,
    negatives: int,
    teachers: Sequence[str] = (),
    limit: int = 100,
    positive_from: int = 1,
) -> dict[str, Any]:
    """Go through the lists once, in bounded memory; the result does not depend on their order.

    Args:
        lists: with all their candidates, also those that were dropped.
        negatives: how many were asked for, per list.
        teachers: their names, in the order of `Candidate.teacher_scores`.
        limit: how many suspicious candidates.
        positive_from: the lowest relevance that makes a positive, which is suggested for a false negative.

    Returns:
        What `audit.json` holds: `lists`, `candidates`, `roles`, `decisions` (counts, and scores scaled in their list,
        by role and decision), `retrievers`, `positives` (ranks, grades, how many in a list), `shortfalls`, `teachers`
        (raw scores by role), `agreement` of teacher and first stage, and `suspicious`.
    """
    parts = (_Decisions(), _Retrievers(), _Positives(), _Shortfalls(negatives), _Raw(teachers), Agreement())
    suspects, count = Suspects(limit, positive_from), 0
    for found in lists:
        count += 1
        for part in parts:
            part.add(found)
        suspects.add(found)
    record: dict[str, Any] = {"lists": count, "negatives_asked": negatives}
    for part in parts:
        record |= part.record()
    record["suspicious"] = [
        {"suspicion": round(s.suspicion, 4), "kind": s.kind, "why": s.why, "suggested": s.suggested}
        | {"query_id": s.query_id, **s.candidate._asdict()}
        for s in suspects.most()
    ]
    return record


def first_stage_scores(candidates: Sequence[Candidate]) -> list[float | None]:
    """The first stage's scores, scaled in the list; none for what it did not find."""
    return scaled([candidate.score if candidate.rank else None for candidate in candidates])


def teacher_scores(candidates: Sequence[Candidate]) -> list[float | None]:
    """The teachers' scores, scaled in the list; none for what they did not score."""
    return scaled([candidate.teacher_score for candidate in candidates])


class _Decisions:
    """Counts and scaled scores by role and decision."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.bins: dict[tuple[str, str, str], list[int]] = {}
        self.sums: Counter[tuple[str, str, str]] = Counter()

    def add(self, found: TrainingList) -> None:
        keys = [(candidate.role, candidate.decision) for candidate in found.candidates]
        self.counts.update(keys)
        for scorer, scores in (
            (FIRST_STAGE, first_stage_scores(found.candidates)),
            (TEACHER, teacher_scores(found.candidates)),
        ):
            for key, score in zip(keys, scores, strict=True):
                if score is not None:
                    self.bins.setdefault((key[0], key[1], scorer), [0] * BINS)[bin_of(score)] += 1
                    # In whole steps, so that the order of the sum does not matter.
                    self.sums[key[0], key[1], scorer] += round(score * 2**30)

    def record(self) -> dict[str, Any]:
        total = sum(self.counts.values())
        roles: Counter[str] = Counter()
        rows = []
        for (role, decision), count in sorted(
            self.counts.items(), key=lambda item: (_order(item[0][0]), -item[1], item[0])
        ):
            roles[role] += count
            row = {"role": role, "decision": decision, "count": count, "share": count / total}
            rows.append(row | {scorer: self._scores(role, decision, scorer) for scorer in (FIRST_STAGE, TEACHER)})
        edges = [i / BINS for i in range(BINS + 1)]
        return {"candidates": total, "roles": dict(roles), "edges": edges, "decisions": rows}

    def _scores(self, *key: str) -> dict[str, Any] | None:
        role, decision, scorer = key
        bins = self.bins.get((role, decision, scorer))
        if bins is None:
            return None
        return {"mean": round(self.sums[role, decision, scorer] / 2**30 / sum(bins), 6), "histogram": bins}


def _order(role: str) -> int:
    return ROLES.index(role) if role in ROLES else len(ROLES)


class _Retrievers:
    """Who found what, and what became of it."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, found: TrainingList) -> None:
        self.counts.update((candidate.retriever, candidate.role) for candidate in found.candidates)

    def record(self) -> dict[str, Any]:
        totals: Counter[str] = Counter()
        for (retriever, _), count in self.counts.items():
            totals[retriever] += count
        names = sorted(totals, key=lambda name: (-totals[name], name))
        return {
            "retrievers": [
                {"retriever": name, "candidates": totals[name], **{role: self.counts[name, role] for role in ROLES}}
                for name in names
            ]
        }


class _Positives:
    """Where the first stage put the labelled positives; grades; how many positives a list has."""

    def __init__(self) -> None:
        self.bands: Counter[int] = Counter()
        self.grades: Counter[int] = Counter()
        self.per_list: Counter[int] = Counter()
        self.relabelled = self.missed = self.lists_missed = 0

    def add(self, found: TrainingList) -> None:
        positives = found.with_role(POSITIVE)
        labelled = [candidate for candidate in positives if is_labelled(candidate)]
        self.per_list[len(positives)] += 1
        self.relabelled += len(positives) - len(labelled)
        self.grades.update(candidate.relevance for candidate in labelled)
        self.missed += sum(not candidate.rank for candidate in labelled)
        self.lists_missed += bool(labelled) and not any(candidate.rank for candidate in labelled)
        self.bands.update(sum(c.rank > last for last in BANDS) for c in labelled if c.rank)

    def record(self) -> dict[str, Any]:
        firsts = (1, *(last + 1 for last in BANDS))
        names = [str(a) if a == b else f"{a}–{b}" for a, b in zip(firsts, BANDS, strict=False)]
        ranks = dict(zip([*names, f"{firsts[-1]}+"], (self.bands[i] for i in range(len(firsts))), strict=True))
        record = {"labelled": self.grades.total(), "relabelled": self.relabelled, "ranks": ranks}
        record |= {"missed": self.missed, "lists_missed": self.lists_missed}
        record |= {"grades": _by_number(self.grades), "per_list": _by_number(self.per_list)}
        return {"positives": record}


class _Shortfalls:
    """Lists with fewer negatives than were asked for."""

    def __init__(self, negatives: int) -> None:
        self.negatives = negatives
        self.missing: Counter[int] = Counter()

    def add(self, found: TrainingList) -> None:
        missing = self.negatives - len(found.with_role(NEGATIVE))
        if missing > 0:
            self.missing[missing] += 1

    def record(self) -> dict[str, Any]:
        without = self.missing[self.negatives] if self.negatives else 0
        return {
            "shortfalls": {
                "short": self.missing.total() - without,
                "without": without,
                "missing": sum(missing * count for missing, count in self.missing.items()),
                "by_missing": _by_number(self.missing),
            }
        }


class _Raw:
    """Each teacher's scores as they came, by role."""

    def __init__(self, teachers: Sequence[str]) -> None:
        self.histograms = {name: Histogram() for name in teachers}

    def add(self, found: TrainingList) -> None:
        for candidate in found.candidates:
            for histogram, score in zip(self.histograms.values(), candidate.teacher_scores, strict=False):
                if score is not None and math.isfinite(score):
                    histogram.add(candidate.role, score)

    def record(self) -> dict[str, Any]:
        return {"teachers": {name: histogram.shown() for name, histogram in self.histograms.items()}}


def _by_number(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(number): counts[number] for number in sorted(counts)}
