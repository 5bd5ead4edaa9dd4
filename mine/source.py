"""What is mined, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from secondstage.collection import Collection, Qrels
from secondstage.config import MineConfig
from secondstage.firststage import FirstStage
from secondstage.parallel import workers
from secondstage.scorecache import SCORES
from secondstage.synthetic import SyntheticQuery, synthetic_qrels
from secondstage.texts import PairTexts

from .costs import COSTS, keep_costs
from .falsenegatives import positives_elsewhere
from .miner import Asked, Miner
from .review import read_reviewed
from .search import CANDIDATES, Search, cut
from .synthesis.stage import held_out_documents
from .teaching import Teaching
from .trainingqueries import TRAIN, training_queries


class Source(NamedTuple):
    """What is mined, and how.

    Attributes:
        collection: with a train split, unless queries are made from documents.
        first_stage: the one that will be deployed.
        made_from: a digest of it and of the documents, by which its candidates are kept.
        config: depth, negatives, rules, teachers.
        seed: of every choice.
        cache: the folder below which candidates, scores and answers are kept, so that a kill loses little of them.
    """

    collection: Collection
    first_stage: FirstStage
    made_from: str
    config: MineConfig
    seed: int
    cache: Path

    def search(self, depth: int) -> Search:
        """The first stage over the collection."""
        return Search(self.first_stage, self.collection.documents.ids, depth, self.cache / CANDIDATES, self.made_from)

    def teaching(self) -> Teaching:
        """The teachers."""
        return Teaching(self.config.teachers, self.cache / SCORES)

    def spared(self) -> set[str]:
        """The documents of dev and test queries that training must not have as positives; none if it may."""
        return held_out_documents(self.collection) if self.config.exclude_leaks == "documents" else set()

    def miner(self, teaching: Teaching, qrels: Qrels, synthetic: Sequence[SyntheticQuery] | None = None) -> Miner:
        """What makes the lists.

        Args:
            teaching: the teachers.
            qrels: of the training queries.
            synthetic: queries made from documents, kept or not; none where they are not made yet.
        """
        collection, config, awaited = self.collection, self.config, synthetic is None
        synthetic = synthetic or ()
        texts = PairTexts(collection.queries, collection.documents, synthetic)
        made = synthetic_qrels(synthetic, config.positive_from)
        asked = {query_id: texts.queries[query_id] for query_id in (*qrels, *made)}
        reviewed = self._reviewed(asked, awaited=awaited)
        # Also those that are not mined this time: what answers a question does not depend on how many are asked.
        known = {**collection.qrels.get(TRAIN, {}), **qrels, **made}
        judged = {query_id: {**rows, **reviewed.get(query_id, {})} for query_id, rows in known.items()}
        shards = [shard for part in (qrels, made) for shard in cut({query_id: asked[query_id] for query_id in part})]
        elsewhere = positives_elsewhere(texts.queries, judged, config.positive_from)
        told = Asked({**qrels, **made}, shards, reviewed, elsewhere, self.spared())
        return Miner(collection, told, self.search(config.depth), teaching, texts, config, seed=self.seed)

    def _reviewed(self, asked: Mapping[str, str], *, awaited: bool) -> Qrels:
        config, collection = self.config, self.collection
        if config.reviewed is None:
            return {}
        path = Path(config.reviewed).expanduser()
        known = {**collection.queries, **asked}
        least = config.positive_from
        return read_reviewed(path, known, collection.documents, positive_from=least, awaited=awaited)


def share(source: Source) -> None:
    """Search and score this process's shards of the training queries, into the files that `mine` looks them up in.

    Queries that are made from documents are not shared: they wait for a generator, not for a processor.
    """
    qrels = training_queries(source.collection, source.config, source.seed).qrels
    if not qrels:
        return
    teaching = source.teaching()
    miner = source.miner(teaching, qrels)
    team = workers()
    try:
        for number, shard in enumerate(miner.asked.shards):
            if team.owns(number):
                miner.taught(miner.candidates(shard))
    finally:
        keep_costs(source.cache / COSTS, teaching.report())
