"""The teacher's scores that losses compare with: those in the lists, or those of a model, asked once and kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from secondstage.config import TrainConfig, on_labels, on_teacher
from secondstage.errors import UserError
from secondstage.lists import DROPPED, IGNORED, Candidate, TrainingList, has_labels, has_teacher
from secondstage.parallel import wait, workers
from secondstage.progress import say
from secondstage.teachers import Teacher, model_teacher, open_teacher
from secondstage.texts import PairTexts


class Taught(NamedTuple):
    """What is trained on.

    Attributes:
        lists: those that a loss of the training can learn from; ignored are candidates that none of them sees.
        counts: how many these are, how many have labels, how many a teacher's scores, and how many were left out.
    """

    lists: list[TrainingList]
    counts: dict[str, int]


def taught(lists: Iterable[TrainingList], texts: PairTexts, config: TrainConfig, scores: Path | None) -> Taught:
    """Choose the lists that the losses of a training can learn from, scored by `train.teacher` if they need it.

    With such a teacher all scores are its own: those of another one may be on another scale.

    Args:
        lists: as `mine` or `teach` wrote them.
        texts: of their pairs.
        config: the losses, and the teacher.
        scores: the folder where scores are kept; needed with a teacher.

    Raises:
        UserError: the teacher cannot be loaded, or no list has what the losses compare with.
    """
    found, by_teacher = list(lists), on_teacher(config.loss)
    if by_teacher and config.teacher is not None:
        if scores is None:
            raise ValueError("a teacher's scores are kept in a folder: give one")
        teacher, team = model_teacher(config.teacher), workers()
        if team.size > 1:  # each its share; then all find all of them in the files
            scored(found[team.rank :: team.size], open_teacher(teacher, scores), texts)
            wait()
        found = scored(found, open_teacher(teacher, scores), texts)
    by_labels, with_labels, with_teacher = on_labels(config.loss), [*map(has_labels, found)], [*map(has_teacher, found)]
    _refuse_nothing(config, any(with_labels), any(with_teacher), len(found))
    taken = [(by_labels and x) or (by_teacher and y) for x, y in zip(with_labels, with_teacher, strict=True)]
    counts = {
        "lists_taken": sum(taken),
        "lists_left_out": len(found) - sum(taken),
        "lists_with_labels": sum(x for x, t in zip(with_labels, taken, strict=True) if t),
        "lists_with_teacher": sum(y for y, t in zip(with_teacher, taken, strict=True) if t),
    }
    _tell(counts, by_labels, by_teacher)
    learnt = [one for one, chosen in zip(found, taken, strict=True) if chosen]
    if by_teacher:
        _tell_unscored(list(filter(has_teacher, learnt)))
    return Taught(learnt if by_labels else [*map(_scored_alone, learnt)], counts)


def scored(lists: Sequence[TrainingList], teacher: Teacher, texts: PairTexts) -> list[TrainingList]:
    """The lists with the teacher's scores of every candidate that training may draw; of others there are none."""
    asked = []
    for found in lists:
        pairs = texts([(found.query_id, c.doc_id) for c in found.candidates if c.role != DROPPED])
        asked.append((texts.queries[found.query_id], [document for _, document in pairs]))
    given = teacher.score_lists(asked, label="teacher")
    return [_with_scores(found, values.tolist()) for found, values in zip(lists, given, strict=True)]


def _scored_alone(found: TrainingList) -> TrainingList:
    """A list for losses that see no label: what no teacher scored would be computed for nothing, and is not drawn."""
    return found._replace(
        candidates=tuple(
            c if c.teacher_score is not None or c.role == DROPPED else c._replace(role=IGNORED)
            for c in found.candidates
        )
    )


def _with_scores(found: TrainingList, scores: Sequence[float]) -> TrainingList:
    left = iter(scores)

    def one(candidate: Candidate) -> Candidate:
        score = math.nan if candidate.role == DROPPED else next(left)
        return candidate._replace(teacher_score=None if math.isnan(score) else score, teacher_scores=())

    return TrainingList(found.query_id, tuple(map(one, found.candidates)))


def _refuse_nothing(config: TrainConfig, labels: bool, teacher: bool, lists: int) -> None:
    """Raise `UserError` if there is not what a loss on teacher scores, or what all of the losses, compare with."""
    names, by_teacher = ", ".join(config.loss), on_teacher(config.loss)
    if by_teacher and not teacher:
        raise UserError(
            f"train.loss names {names}, but no list has two candidates with a teacher's score: give train.teacher, a "
            "model that scores them, or mine again with mine.teachers"
        )
    if not by_teacher and not labels:
        raise UserError(
            f"train.loss names {names}, which compares with labels, but none of {lists} lists has both a positive and "
            "a negative: give qrels, or a loss that compares with a teacher's scores, e.g. kl"
        )


def _tell_unscored(lists: Sequence[TrainingList]) -> None:
    """Say how many candidates a teacher left out of the lists that it scored."""
    candidates = [c for found in lists for c in found.candidates if c.role != DROPPED]
    without = sum(c.teacher_score is None for c in candidates)
    if without:
        say(
            f"  {without} of {len(candidates)} candidates of the lists with a teacher have no score of it: losses on a "
            "teacher's scores pass over them"
        )


def _tell(counts: dict[str, int], by_labels: bool, by_teacher: bool) -> None:
    """Say what lists lack, where a loss looks for it."""
    without = counts["lists_taken"] - counts["lists_with_teacher"]
    if by_teacher and without:
        say(f"  {without} of {counts['lists_taken']} lists have no teacher's scores: only losses on labels see them")
    if counts["lists_left_out"]:
        needs = " or ".join(
            words
            for words, asked in (("labels (a positive and a negative)", by_labels), ("a teacher's scores", by_teacher))
            if asked
        )
        say(f"  {counts['lists_left_out']} lists have no {needs}: they are left out")
