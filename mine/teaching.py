"""The teachers of a run, as one: each scores every candidate, and what they say together is another score."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from secondstage.config import TeacherConfig
from secondstage.run import Scores
from secondstage.teachers import Teacher, open_teacher
from secondstage.teachers.ensemble import combine
from secondstage.teachers.scoresfile import ScoresFile
from secondstage.texts import PairTexts

from .assemble import TeacherScores

Lists = Sequence[tuple[str, Sequence[str]]]
ToScore = tuple[str, Sequence[str]]
# Of documents, so many characters are held at a time: a shard of long ones would take gigabytes.
CHARACTERS = 1 << 26


class Teaching:
    """Several teachers; their names are in the order of the scores."""

    def __init__(self, config: Mapping[str, TeacherConfig], cache: Path) -> None:
        """Load every model, read every file of scores, and make the clients of every endpoint.

        Raises:
            UserError: as `open_teacher`.
        """
        self.names = tuple(config)
        self.weights = [teacher.weight for teacher in config.values()]
        self.teachers: list[Teacher] = [open_teacher(teacher, cache) for teacher in config.values()]

    def each(
        self, lists: Lists, asked: Sequence[ToScore] | None = None, *, label: str | None = None
    ) -> list[tuple[Scores, list[Scores]]]:
        """Of each list of (query text, document texts): the scores of all teachers together, and each one's.

        NaN where a teacher, or all of them, gave none. `asked` are the ids of the same, by which a file is read.
        """
        found = [
            teacher.look_up(asked)
            if asked is not None and isinstance(teacher, ScoresFile)
            else teacher.score_lists(lists, label=label and f"{label} {name}")
            for name, teacher in zip(self.names, self.teachers, strict=True)
        ]
        by_list = [[scores[i] for scores in found] for i in range(len(lists))]
        return [(combine(scores, self.weights), scores) for scores in by_list]

    def score_lists(self, lists: Lists, *, label: str | None = None) -> list[Scores]:
        """What the teachers say together; see `Teacher`."""
        return [together for together, _ in self.each(lists, label=label)]

    def score(
        self, asked: Sequence[ToScore], texts: PairTexts, *, label: str | None = None
    ) -> list[dict[str, TeacherScores]]:
        """The scores of each list by document id, as `by_document`; texts are read as they are needed.

        Args:
            asked: (query id, document ids) of each list.
            texts: as training will read each pair.
            label: as `by_document`.
        """
        if not self.teachers:
            return [{} for _ in asked]
        places, found = iter(asked), list[dict[str, TeacherScores]]()
        for lists in _parts(asked, texts):
            found += self.by_document([*islice(places, len(lists))], lists, label=label)
        return found

    def by_document(
        self, asked: Sequence[ToScore], lists: Lists, *, label: str | None = None
    ) -> list[dict[str, TeacherScores]]:
        """The scores of each list by document id; none where a teacher, or all of them, gave none.

        Args:
            asked: (query id, document ids) of each list.
            lists: (query text, document texts) of each list, in the same order.
            label: shows a progress bar of each teacher's work under this name and the teacher's.
        """
        scored = []
        for (_, ids), (together, single) in zip(asked, self.each(lists, asked, label=label), strict=True):
            columns = zip(*map(_or_none, single), strict=True)
            scored.append(dict(zip(ids, zip(_or_none(together), columns, strict=True), strict=True)))
        return scored

    def report(self) -> dict[str, Any]:
        """What each teacher did and cost, of this object; see `merge_reports` for several."""
        return {name: dict(teacher.report()) for name, teacher in zip(self.names, self.teachers, strict=True)}


def merge_reports(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Two reports as one: numbers added, reports inside merged, anything else as the second says."""
    merged = {**first, **second}
    for name in first.keys() & second.keys():
        values = first[name], second[name]
        if all(isinstance(value, Mapping) for value in values):
            merged[name] = merge_reports(*values)
        elif all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            merged[name] = sum(values)
    return merged


def _parts(asked: Sequence[ToScore], texts: PairTexts) -> Iterator[Lists]:
    """Lists with their texts, as many as `CHARACTERS` make; within a part a text that is there twice is one string."""
    part, held, characters = list[tuple[str, list[str]]](), dict[object, str](), 0
    for query_id, doc_ids in asked:
        if characters >= CHARACTERS:
            yield part
            part, held, characters = [], {}, 0
        documents = []
        for doc_id in doc_ids:
            key = texts.document_key(query_id, doc_id)
            if key not in held:
                ((_, held[key]),) = texts([(query_id, doc_id)])
                characters += len(held[key])
            documents.append(held[key])
        part.append((texts.queries[query_id], documents))
    if part:
        yield part


def _or_none(scores: Scores) -> list[float | None]:
    return [None if math.isnan(score) else score for score in scores.tolist()]
