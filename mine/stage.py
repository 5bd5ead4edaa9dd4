"""The verb: search the training queries with the first stage, and write what training reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from secondstage.collection import Collection
from secondstage.config import MineConfig
from secondstage.errors import UserError
from secondstage.firststage import FirstStage
from secondstage.lists import TrainingList, read_lists, write_lists
from secondstage.parallel import Workers
from secondstage.progress import bar, say
from secondstage.run import Ranking, Run
from secondstage.scorecache import SCORES
from secondstage.splits import choose_answerable
from secondstage.synthetic import SYNTHETIC, PairTexts, SyntheticQuery, read_records, synthetic_qrels

from .auditpage import write_audit
from .counts import count
from .miner import Asked, Miner
from .review import read_reviewed
from .search import CANDIDATES, Search, cut
from .synthesis import synthesize
from .teaching import Teaching
from .trainingqueries import TRAIN, TrainingQueries, training_queries

# Below a run's output: what generators answered.
ANSWERS = "answers"


class Source(NamedTuple):
    """What is mined, and how.

    Attributes:
        collection: with a train split, unless queries are made from documents.
        first_stage: the one that will be deployed.
        made_from: a digest of it, by which its candidates are kept.
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


def mine(source: Source, folder: Path, *, dev_depth: int, dev_only: bool = False) -> dict[str, Any]:
    """Write `train/` (training lists), their audit, and `dev.trec` (the dev queries' candidates) into `folder`.

    Args:
        source: what is mined, and how.
        folder: existing and empty.
        dev_depth: candidates per dev query.
        dev_only: make no training lists: nothing will be trained.

    Returns:
        Counts, for the manifest: what was kept, what was dropped and by which rule; what teachers and generators cost.

    Raises:
        UserError: there is no training query, no list that can be trained on, or a teacher or generator fails.
    """
    if dev_only:
        write_lists(folder / TRAIN, ())
    details: dict[str, Any] = {"train_queries": 0} if dev_only else _mine_train(source, folder)
    collection = source.collection
    dev = choose_answerable(collection.qrels.get("dev", {}), source.config.dev_queries, source.seed)
    search = source.search(dev_depth)
    rankings: dict[str, Ranking] = {}
    for shard in cut({query_id: collection.queries[query_id] for query_id in dev}):
        rankings.update(search.run(shard))
    Run("first_stage", rankings).write_trec(folder / "dev.trec")
    return {"dev_queries": len(dev), **details}


def share(source: Source, team: Workers) -> None:
    """Search and score this process's shards of the training queries, into the files that `mine` looks them up in.

    Queries that are made from documents are not shared: they wait for a generator, not for a processor.
    """
    miner = _miner(source, training_queries(source.collection, source.config, source.seed), ())
    for number, shard in enumerate(cut(miner.asked.queries)):
        if team.owns(number):
            miner.taught(miner.candidates(shard))


def _mine_train(source: Source, folder: Path) -> dict[str, Any]:
    collection, config = source.collection, source.config
    asked = training_queries(collection, config, source.seed)
    synthetic, report = _synthetic(source, folder)
    if not asked.qrels and config.synthesize is None:
        raise UserError(
            f"collection {collection.name!r} has no training query with a judgement of mine.positive_from="
            f"{config.positive_from} or higher: training needs a train split in the qrels, or mine.synthesize, which "
            "makes queries from documents"
        )
    miner = _miner(source, asked, synthetic)
    counts: Counter[str] = Counter(asked.counts)
    write_lists(folder / TRAIN, _lists(miner, counts), miner.teaching.names)
    report |= {"teachers": miner.teaching.report()} if config.teachers else {}
    write_audit(
        folder,
        read_lists(folder / TRAIN),
        miner.asked.queries,
        collection.documents,
        negatives=config.negatives,
        teachers=miner.teaching.names,
        notes=asked.notes,
        counts={**counts, **_costs(report)},
    )
    if not counts["lists"]:
        raise UserError(
            f"none of {len(miner.asked.qrels)} training lists has both a positive and a negative; of "
            f"{counts['negatives_found']} candidates {_dropped(counts)}: raise mine.depth, or loosen these rules"
        )
    for note in asked.notes:
        say(f"  {note}")
    say(
        f"  {counts['lists']} lists, {counts['positives']} positives, {counts['negatives_kept']} negatives; "
        f"{_dropped(counts)}; see mine/audit.html"
    )
    return {"train_queries": len(miner.asked.qrels), **dict(sorted(counts.items())), **report}


def _synthetic(source: Source, folder: Path) -> tuple[list[SyntheticQuery], dict[str, Any]]:
    """Queries made from documents, and what making them cost; none if that is not asked for."""
    config = source.config
    if config.synthesize is None:
        return [], {}
    made = synthesize(
        source.collection,
        source.first_stage,
        source.teaching() if config.teachers else None,
        config.synthesize,
        seed=source.seed,
        folder=folder,
        cache=source.cache / ANSWERS,
    )
    return list(read_records(folder / SYNTHETIC)), {"synthesis": {**made.counts, **made.report}}


def _miner(source: Source, found: TrainingQueries, synthetic: Sequence[SyntheticQuery]) -> Miner:
    collection, config = source.collection, source.config
    texts = PairTexts(collection.queries, collection.documents, synthetic)
    qrels = {**found.qrels, **synthetic_qrels(synthetic)}
    reviewed = {}
    if config.reviewed is not None:
        reviewed = read_reviewed(Path(config.reviewed).expanduser(), texts.queries, collection.documents)
    asked = Asked.of(qrels, texts.queries, reviewed, config.positive_from)
    return Miner(collection, asked, source.search(config.depth), source.teaching(), texts, config, seed=source.seed)


def _lists(miner: Miner, counts: Counter[str]) -> Iterator[TrainingList]:
    """Every list, counted."""
    progress = bar(total=len(miner.asked.queries), label="mine", unit="query")
    for shard in cut(miner.asked.queries):
        for training_list in miner.lists(shard):
            counts.update(count([training_list], miner.config.negatives))
            yield training_list
        progress.update(len(shard))
    progress.close()


def _costs(report: Any) -> Any:
    """A report without its seconds: the audit of the same lists is the same file."""
    if isinstance(report, Mapping):
        return {name: _costs(value) for name, value in report.items() if name != "seconds"}
    return report


def _dropped(counts: Mapping[str, int]) -> str:
    """What the rules did, in words."""
    names = [name for name in counts if name.startswith(("relabelled_", "ignored_", "dropped_"))]
    return ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in sorted(names)) or "none was dropped"
