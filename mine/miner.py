"""From a shard's candidates to its training lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from secondstage.collection import Collection, Qrels
from secondstage.config import MineConfig
from secondstage.duplicates import near_pairs
from secondstage.lists import IGNORED, POSITIVE, Candidate, TrainingList
from secondstage.texts import PairTexts

from .assemble import TeacherScores, assemble
from .candidates import draw_random, label
from .decisions import FALSE_NEGATIVE_RULES
from .falsenegatives import possible_twins
from .sample import generator, random_count
from .search import Search, Shard
from .teaching import Teaching


class Asked(NamedTuple):
    """Everything that people, or a generator, say of the queries.

    Attributes:
        qrels: judgements.
        shards: the queries' texts, shard by shard; those of people and those of a generator are in no shard together,
            so that the first ones are the same with and without the others.
        reviewed: judgements of a person who looked again.
        elsewhere: positives of other queries with the same text.
        held_out: documents that must not become positives by a rule: dev or test queries need them.
    """

    qrels: Qrels
    shards: list[Shard]
    reviewed: Qrels
    elsewhere: Qrels
    held_out: Set[str]

    @property
    def queries(self) -> dict[str, str]:
        """The texts of all queries."""
        return {query_id: text for shard in self.shards for query_id, text in shard.items()}


class Miner:
    """Makes the training lists of one run."""

    def __init__(
        self,
        collection: Collection,
        asked: Asked,
        search: Search,
        teaching: Teaching,
        texts: PairTexts,
        config: MineConfig,
        *,
        seed: int,
    ) -> None:
        """Nothing is searched or scored yet.

        Args:
            collection: whose documents are searched.
            asked: the queries.
            search: finds candidates.
            teaching: scores them.
            texts: as training will read each pair.
            config: every rule.
            seed: of every draw.
        """
        self.collection, self.asked, self.search, self.teaching = collection, asked, search, teaching
        self.texts, self.config, self.seed = texts, config, seed

    def lists(self, shard: Shard) -> Iterator[TrainingList]:
        """The training lists of a shard's queries, in their order."""
        candidates = self.candidates(shard)
        taught = self.taught(candidates)
        for (query_id, found), scores, twins in zip(candidates.items(), taught, self._twins(candidates), strict=True):
            made = assemble(
                query_id,
                found,
                self.config,
                seed=self.seed,
                teacher=scores,
                twins=twins,
                elsewhere=self.asked.elsewhere.get(query_id, {}),
            )
            yield TrainingList(query_id, tuple(map(self._spared, made.candidates)))

    def candidates(self, shard: Shard) -> dict[str, list[Candidate]]:
        """What is searched, judged and drawn for each query of a shard."""
        doc_ids = self.collection.documents.ids
        labelled = {}
        for query_id, ranking in self.search.run(shard).items():
            judged, reviewed = self.asked.qrels[query_id], self.asked.reviewed.get(query_id, {})
            rng = generator(self.seed, query_id, "random")
            # What was reviewed is not excluded: the draw stays as it was when the sample to review was made.
            drawn = draw_random(random_count(self.config), doc_ids, {*ranking.doc_ids, *judged}, rng)
            labelled[query_id] = label(
                ranking, judged, positive_from=self.config.positive_from, reviewed=reviewed, drawn=drawn
            )
        return labelled

    def taught(self, candidates: Mapping[str, Sequence[Candidate]]) -> list[dict[str, TeacherScores]]:
        """What the teachers say of each list of a shard."""
        asked = [(query_id, [candidate.doc_id for candidate in found]) for query_id, found in candidates.items()]
        return self.teaching.score(asked, self.texts, label="teacher")

    def _spared(self, candidate: Candidate) -> Candidate:
        """A positive by a rule, not by a person, is masked if it would give a dev or test query's document away."""
        by_rule = candidate.role == POSITIVE and candidate.decision in FALSE_NEGATIVE_RULES
        return candidate._replace(role=IGNORED) if by_rule and candidate.doc_id in self.asked.held_out else candidate

    def _twins(self, candidates: Mapping[str, Sequence[Candidate]]) -> list[dict[tuple[str, str], float]]:
        rules = self.config.false_negatives
        if rules.duplicate == "keep":
            return [{}] * len(candidates)
        pairs = [list(possible_twins(found)) for found in candidates.values()]
        near = near_pairs(
            (pair for possible in pairs for pair in possible),
            lambda doc_id: self.collection.documents.by_id(doc_id).content,
            rules.similarity,
        )
        return [{pair: near[pair] for pair in possible if pair in near} for possible in pairs]
