"""What a student learns from: the labelled lists and those of unlabelled queries, with the teacher's scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

from secondstage.config import MINED, DistillConfig
from secondstage.lists import DROPPED, IGNORED, Candidate, TrainingList, read_index, read_lists
from secondstage.parallel import Workers
from secondstage.texts import texts_of_lists

from .assemble import with_teacher
from .candidates import known_scores, label
from .decisions import NOT_SAMPLED
from .sample import generator, stratified
from .search import QUERIES_PER_SHARD, Shard, cut
from .source import Source
from .teaching import Teaching
from .trainingqueries import TRAIN
from .unlabelledqueries import NONE, unlabelled_queries

# What the decision of a candidate says that is in the list for the teacher's score alone.
TAUGHT = "taught"

Part = Sequence[TrainingList] | Shard
"""Labelled lists, or the texts of unlabelled queries."""


class Lessons:
    """The lists of a student.

    A candidate that no label speaks for, because its query has none or because mining dropped it, is ignored by losses
    on labels, and is there for its score.
    """

    def __init__(self, source: Source, mined: Path, config: DistillConfig, teaching: Teaching) -> None:
        """Read the unlabelled queries; nothing is searched or scored yet.

        Args:
            source: collection, first stage, seed and caches.
            mined: the folder of the mine stage.
            config: of the teacher's part.
            teaching: the teacher, or several.

        Raises:
            UserError: as `unlabelled_queries`.
        """
        self.source, self.mined, self.config, self.teaching = source, mined, config, teaching
        path, count = config.queries, config.max_queries
        self.unlabelled = (
            NONE
            if path is None
            else unlabelled_queries(Path(path).expanduser(), source.collection, count=count, seed=source.seed)
        )
        self.texts = texts_of_lists(source.collection, mined)
        self.texts.queries.update(self.unlabelled.queries)
        self.search = source.search(config.depth)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the teachers, in the order of the scores."""
        return self.teaching.names

    def __len__(self) -> int:
        """How many lists there are."""
        return read_index(self.mined / TRAIN).lists + len(self.unlabelled.queries)

    def parts(self) -> Iterator[Part]:
        """What is searched and scored at a time: labelled lists first."""
        lists = read_lists(self.mined / TRAIN)
        labelled = iter(lambda: list(islice(lists, QUERIES_PER_SHARD)), [])
        return chain(labelled, cut(self.unlabelled.queries))

    def share(self, team: Workers) -> None:
        """Search and score this process's parts, into the files that `lists` looks them up in."""
        for number, part in enumerate(self.parts()):
            if team.owns(number):
                self.scored(part)

    def lists(self) -> Iterator[TrainingList]:
        """Every list, scored, with the candidates that the student sees."""
        for part in self.parts():
            yield from map(self._chosen, self.scored(part))

    def scored(self, part: Part) -> list[TrainingList]:
        """The lists of a part with the teacher's scores of what is not too deep; of the rest there are none."""
        lists = self._searched(part) if isinstance(part, Mapping) else part
        # Where mining's own teachers teach, the scores of labelled lists are there.
        if self.config.teacher != MINED or isinstance(part, Mapping):
            lists = self._asked(lists)
        return [TrainingList(found.query_id, tuple(map(self._for_its_score, found.candidates))) for found in lists]

    def _searched(self, shard: Shard) -> list[TrainingList]:
        return [
            TrainingList(query_id, tuple(c._replace(role=IGNORED, decision=TAUGHT) for c in label(ranking, {})))
            for query_id, ranking in self.search.run(shard).items()
        ]

    def _asked(self, lists: Sequence[TrainingList]) -> list[TrainingList]:
        asked = [(found.query_id, [c.doc_id for c in found.candidates if self._in_reach(c)]) for found in lists]
        scores = self.teaching.score(asked, self.texts, label="score")
        return [
            TrainingList(found.query_id, tuple(with_teacher(found.candidates, known, len(self.names))))
            for found, known in zip(lists, scores, strict=True)
        ]

    def _in_reach(self, candidate: Candidate) -> bool:
        return candidate.role != DROPPED or 0 < candidate.rank <= self.config.depth

    def _for_its_score(self, candidate: Candidate) -> Candidate:
        """What mining dropped is ignored instead, if it has a score; why it was dropped is still its decision."""
        dropped = candidate.role == DROPPED and self._in_reach(candidate) and candidate.teacher_score is not None
        return candidate._replace(role=IGNORED) if dropped else candidate

    def _chosen(self, found: TrainingList) -> TrainingList:
        """At most `candidates` of a list: those with a label, and of the rest some from the whole range of scores."""
        pool = found.with_role(IGNORED)
        labelled = sum(c.role not in (IGNORED, DROPPED) for c in found.candidates)
        room = len(pool) if self.config.candidates is None else max(0, self.config.candidates - labelled)
        if len(pool) <= room:
            return found
        rng = generator(self.source.seed, found.query_id, TAUGHT)
        kept = {c.doc_id for c in stratified(pool, room, known_scores(pool, "teacher"), rng)} if room else set()

        def chosen(candidate: Candidate) -> Candidate:
            if candidate.role != IGNORED or candidate.doc_id in kept:
                return candidate
            # Why mining dropped or ignored it is still true.
            decision = NOT_SAMPLED if candidate.decision == TAUGHT else candidate.decision
            return candidate._replace(role=DROPPED, decision=decision)

        return TrainingList(found.query_id, tuple(map(chosen, found.candidates)))
