"""The verb: search the training queries with the first stage, and write what training reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from secondstage.collection import Collection, Qrels
from secondstage.config import MineConfig
from secondstage.errors import UserError
from secondstage.firststage import FirstStage, search_run
from secondstage.lists import TrainingList, write_lists
from secondstage.progress import bar
from secondstage.run import Ranking, Run
from secondstage.splits import choose_answerable

from .assemble import assemble
from .candidates import draw_random, label
from .counts import count
from .sample import generator, random_count

QUERIES_PER_BATCH = 512


def mine(
    collection: Collection,
    first_stage: FirstStage,
    config: MineConfig,
    *,
    seed: int,
    dev_depth: int,
    folder: Path,
    dev_only: bool = False,
) -> dict[str, Any]:
    """Write `train/` (training lists) and `dev.trec` (the dev queries' candidates) into `folder`.

    Args:
        collection: with a train split.
        first_stage: the one that will be deployed.
        config: depth, number of negatives, the rule against false ones.
        seed: of every choice.
        dev_depth: candidates per dev query.
        folder: existing and empty.
        dev_only: make no training lists: nothing will be trained.

    Returns:
        Counts, for the manifest: what was kept, what was dropped and by which rule.

    Raises:
        UserError: no training query has a relevant document.
    """
    train = choose_answerable(collection.qrels.get("train", {}), config.max_queries, seed)
    if dev_only:
        train = {}
    elif not train:
        raise UserError(
            f"collection {collection.name!r} has no training query with a relevant document: training needs a train "
            "split in the qrels"
        )
    counts: Counter[str] = Counter()
    rankings = _search(first_stage, collection, train, config.depth, "mine")
    write_lists(folder / "train", _lists(rankings, train, collection.documents.ids, config, seed, counts))
    dev = choose_answerable(collection.qrels.get("dev", {}), config.dev_queries, seed)
    Run("first_stage", dict(_search(first_stage, collection, dev, dev_depth, "dev"))).write_trec(folder / "dev.trec")
    if train and not counts["positives"]:
        raise UserError(f"no training query has a judgement of mine.positive_from={config.positive_from} or higher")
    if train and not counts["lists"]:
        raise UserError("no training list has a negative: raise mine.depth or mine.max_share")
    return {"train_queries": len(train), "dev_queries": len(dev), **dict(sorted(counts.items()))}


def _lists(
    rankings: Iterator[tuple[str, Ranking]],
    qrels: Qrels,
    doc_ids: Sequence[str],
    config: MineConfig,
    seed: int,
    counts: Counter[str],
) -> Iterator[TrainingList]:
    for query_id, ranking in rankings:
        judged = qrels[query_id]
        rng = generator(seed, query_id, "random")
        drawn = draw_random(random_count(config), doc_ids, {*ranking.doc_ids, *judged}, rng)
        candidates = label(ranking, judged, positive_from=config.positive_from, drawn=drawn)
        training_list = assemble(query_id, candidates, config, seed=seed)
        counts.update(count([training_list], config.negatives))
        yield training_list


def _search(
    first_stage: FirstStage, collection: Collection, qrels: Qrels, depth: int, name: str
) -> Iterator[tuple[str, Ranking]]:
    query_ids = list(qrels)
    progress = bar(total=len(query_ids), label=name, unit="query")
    for start in range(0, len(query_ids), QUERIES_PER_BATCH):
        queries = {query_id: collection.queries[query_id] for query_id in query_ids[start : start + QUERIES_PER_BATCH]}
        yield from search_run(first_stage, collection.documents.ids, queries, depth).items()
        progress.update(len(queries))
    progress.close()
