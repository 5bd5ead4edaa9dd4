"""The verb: search the training queries with the first stage, and write what training reads."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from secondstage.errors import UserError
from secondstage.lists import TrainingList, read_lists, write_lists
from secondstage.progress import bar, say
from secondstage.run import Ranking, Run
from secondstage.splits import choose_answerable
from secondstage.synthetic import SYNTHETIC, SyntheticQuery, read_records

from .auditpage import write_audit
from .costs import COSTS, GENERATORS, keep_costs, take_costs
from .counts import count
from .miner import Miner
from .search import cut
from .source import Source
from .synthesis import name, synthesize
from .teaching import Teaching
from .trainingqueries import TRAIN, training_queries

# Below a run's output: what generators answered; and what shows why a mining failed, as its own folder is discarded.
ANSWERS = "answers"
FAILED = "failed"
SHOWN = ("audit.html", "audit.json", "suspicious.tsv", SYNTHETIC)


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
    details = {"train_queries": 0} if dev_only else _mine_train(source, folder)
    collection = source.collection
    dev = choose_answerable(collection.qrels.get("dev", {}), source.config.dev_queries, source.seed)
    search = source.search(dev_depth)
    rankings: dict[str, Ranking] = {}
    for shard in cut({query_id: collection.queries[query_id] for query_id in dev}):
        rankings.update(search.run(shard))
    Run("first_stage", rankings).write_trec(folder / "dev.trec")
    # Last of all: who is stopped before hands on what it paid.
    return {"dev_queries": len(dev), **details, **({} if dev_only else _costs(source))}


def _mine_train(source: Source, folder: Path) -> dict[str, Any]:
    collection, config = source.collection, source.config
    asked = training_queries(collection, config, source.seed)
    if not asked.qrels and config.synthesize is None:
        raise UserError(
            f"collection {collection.name!r} has no training query with a judgement of mine.positive_from="
            f"{config.positive_from} or higher: training needs a train split in the qrels, or mine.synthesize, which "
            "makes queries from documents"
        )
    clear(source.cache / FAILED)
    teaching = source.teaching()
    counts: Counter[str] = Counter(asked.counts)
    try:
        synthetic, made = _synthetic(source, teaching, folder)
        miner = source.miner(teaching, asked.qrels, synthetic)
        write_lists(folder / TRAIN, _lists(miner, counts), teaching.names)
    finally:
        keep_costs(source.cache / COSTS, teaching.report())
    _audit(source, folder, miner, asked.notes, counts, made.get("synthesis_counts", {}))
    for note in asked.notes:
        say(f"  {note}")
    say(
        f"  {counts['lists']} lists, {counts['positives']} positives, {counts['negatives_kept']} negatives; "
        f"{_dropped(counts)}; see audit.html beside them"
    )
    for teacher, report in teaching.report().items():
        if report.get("found") == 0:
            say(
                f"  ! mine.teachers.{teacher}: {config.teachers[teacher].run} has a score for none of the "
                f"{report['pairs']} candidates: its ids are to be those of the collection"
            )
    return {"train_queries": len(miner.asked.qrels), **dict(sorted(counts.items())), **made}


def _costs(source: Source) -> dict[str, Any]:
    """What teachers and generators cost, also in a run that was stopped."""
    teachers = take_costs(source.cache / COSTS)
    return {**_cost_of_synthesis(source), **({"teachers": teachers} if teachers else {})}


def _audit(
    source: Source,
    folder: Path,
    miner: Miner,
    notes: Sequence[str],
    counts: Mapping[str, int],
    synthesis: Mapping[str, int],
) -> None:
    """Write the audit; if no list can be trained on, where it outlives the folder, and raise."""
    target = folder if counts["lists"] else _failed(source)
    # Counts of the lists alone: what they cost differs from run to run, and the audit of the same lists is the same.
    # Those of queries have names of their own, for a teacher drops queries as well as candidates.
    of_queries = {f"synthetic_{name}": number for name, number in synthesis.items()}
    write_audit(
        target,
        read_lists(folder / TRAIN),
        miner.asked.queries,
        source.collection.documents,
        negatives=source.config.negatives,
        teachers=miner.teaching.names,
        notes=notes,
        counts=dict(sorted(counts.items())) | of_queries,
        positive_from=source.config.positive_from,
    )
    if not counts["lists"]:
        raise UserError(
            f"none of {len(miner.asked.qrels)} training lists has both a positive and a negative; of "
            f"{counts['negatives_found']} candidates {_dropped(counts)}: raise mine.depth, or loosen these rules; "
            f"{target / 'audit.html'} shows them"
        )


def _synthetic(source: Source, teaching: Teaching, folder: Path) -> tuple[list[SyntheticQuery], dict[str, Any]]:
    """Queries made from documents, and how many; none if that is not asked for."""
    config = source.config
    if config.synthesize is None:
        return [], {}
    try:
        counts = synthesize(
            source.collection,
            source.first_stage,
            teaching if teaching.names else None,
            config.synthesize,
            seed=source.seed,
            folder=folder,
            cache=source.cache / ANSWERS,
            costs=source.cache / COSTS / GENERATORS,
            spared=source.spared(),
        )
    except UserError as error:
        if not (folder / SYNTHETIC).is_file():
            raise
        kept = shutil.copy(folder / SYNTHETIC, _failed(source) / SYNTHETIC)
        raise UserError(f"{error}\n{kept} has all of them") from error
    return list(read_records(folder / SYNTHETIC)), {"synthesis_counts": counts}


def _cost_of_synthesis(source: Source) -> dict[str, Any]:
    """Who made the queries, and what that cost, also in a run that was stopped; of others under their names."""
    config = source.config.synthesize
    if config is None:
        return {}
    costs = take_costs(source.cache / COSTS / GENERATORS)
    own = {"generator": name(config), **costs.pop(name(config), {})}
    return {"synthesis": {**own, **({"others": costs} if costs else {})}}


def _failed(source: Source) -> Path:
    """An empty folder for what shows why nothing was made."""
    folder = source.cache / FAILED
    clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def clear(folder: Path) -> None:
    """Delete what a failed mining left here, and nothing else: the output folder may hold a folder of this name."""
    for shown in SHOWN:
        (folder / shown).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _lists(miner: Miner, counts: Counter[str]) -> Iterator[TrainingList]:
    """Every list, counted."""
    reviewed = sum(map(len, miner.asked.reviewed.values()))
    if reviewed:
        counts["reviewed_without_effect"] = reviewed
    with bar(total=len(miner.asked.queries), label="mine", unit="query") as progress:
        for shard in miner.asked.shards:
            for training_list in miner.lists(shard):
                counts.update(count([training_list], miner.config.negatives))
                if reviewed:
                    counts["reviewed_without_effect"] -= _with_effect(training_list, miner)
                yield training_list
            progress.update(len(shard))


def _with_effect(found: TrainingList, miner: Miner) -> int:
    """How many documents of a review are in a list, or would be, had the review not taken them away."""
    asked, least = miner.asked, miner.config.positive_from
    labelled = {doc_id for doc_id, relevance in asked.qrels[found.query_id].items() if relevance >= least}
    known = {candidate.doc_id for candidate in found.candidates} | labelled
    return len(known & asked.reviewed.get(found.query_id, {}).keys())


def _dropped(counts: Mapping[str, int]) -> str:
    """What the rules did, in words."""
    names = [name for name in counts if name.startswith(("relabelled_", "ignored_", "dropped_"))]
    return ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in sorted(names)) or "none was dropped"
