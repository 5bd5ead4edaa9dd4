"""The verb between two trainings: have the teacher score lists, labelled and not, and write what a student reads."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from secondstage.config import DistillConfig, TeacherConfig
from secondstage.lists import DROPPED, TrainingList, has_labels, has_teacher, write_lists
from secondstage.measures import evaluate, mean
from secondstage.parallel import workers
from secondstage.progress import bar, say
from secondstage.run import read_trec
from secondstage.scorecache import SCORES
from secondstage.splits import choose_queries
from secondstage.synthetic import SYNTHETIC
from secondstage.unlabelled import UNLABELLED, write_unlabelled

from .costs import COSTS, keep_costs, take_costs
from .lessons import Lessons
from .source import Source
from .teaching import Teaching
from .trainingqueries import TRAIN

DEV = "dev.trec"
# Dev queries on which a teacher is compared with the first stage: enough to see that it is worse, and quickly scored.
DEV_QUERIES = 100
MEASURE = "nDCG@10"
# What costs nothing but time to ask: only such a teacher is asked about dev.
MODELS = ("cross_encoder", "decoder")


def teach(
    source: Source, mined: Path, config: DistillConfig, teachers: Mapping[str, TeacherConfig], folder: Path
) -> dict[str, Any]:
    """Write what `mine` wrote into `folder`, with the teacher's scores and with the lists of unlabelled queries.

    Args:
        source: collection, first stage, seed and caches.
        mined: the folder of the mine stage.
        config: which queries, how deep.
        teachers: who scores.
        folder: existing and empty.

    Returns:
        Counts, for the manifest; what the teachers cost; where they and the first stage stand on dev.

    Raises:
        UserError: the file of queries is none, or a teacher cannot be loaded or asked.
    """
    teaching = Teaching(teachers, source.cache / SCORES)
    counts: Counter[str] = Counter()
    try:
        lessons = Lessons(source, mined, config, teaching)
        write_lists(folder / TRAIN, _counted(lessons, counts), lessons.names)
        dev = compare_on_dev(source, mined, teaching) if _only_models(teachers) else None
    finally:
        keep_costs(source.cache / COSTS, teaching.report())
    write_unlabelled(folder / UNLABELLED, lessons.unlabelled.queries)
    for name in (DEV, SYNTHETIC):
        if (mined / name).is_file():
            shutil.copy(mined / name, folder / name)
    counts.update(lessons.unlabelled.counts)
    _tell(counts)
    return {**dict(sorted(counts.items())), "dev": dev, "teachers": take_costs(source.cache / COSTS)}


def share_teaching(source: Source, mined: Path, config: DistillConfig, teachers: Mapping[str, TeacherConfig]) -> None:
    """Search and score this process's part of the lists, into the files that `teach` looks them up in."""
    teaching = Teaching(teachers, source.cache / SCORES)
    try:
        Lessons(source, mined, config, teaching).share(workers())
    finally:
        keep_costs(source.cache / COSTS, teaching.report())


def compare_on_dev(source: Source, mined: Path, teaching: Teaching) -> dict[str, Any] | None:
    """Rerank dev by the teacher, and say so if that is worse than the first stage; none where there is no dev split.

    A student learns to order as its teacher does, mistakes included.
    """
    run, collection = read_trec(mined / DEV), source.collection
    chosen = choose_queries(run, DEV_QUERIES, source.seed)
    if not chosen:
        return None
    run, qrels = run.only(chosen), {query_id: collection.qrels["dev"][query_id] for query_id in chosen}
    lists = [(collection.queries[query_id], collection.documents.contents(run[query_id].doc_ids)) for query_id in run]
    scores = [score for found in teaching.score_lists(lists, label="dev") for score in found.tolist()]
    first, taught = (
        mean(evaluate(order, qrels, [MEASURE])[MEASURE]) for order in (run, run.rescored("teacher", scores))
    )
    say(f"  teacher on dev: {MEASURE} {taught:.4f} (first stage {first:.4f}, {len(chosen)} queries)")
    if taught < first:
        say(
            f"  the teacher orders dev worse than the first stage does ({taught - first:+.4f}): a student learns its "
            "mistakes as well; train it longer, or give a better one as distill.teacher"
        )
    return {"queries": len(chosen), "measure": MEASURE, "first_stage": first, "teacher": taught}


def _only_models(teachers: Mapping[str, TeacherConfig]) -> bool:
    return all(teacher.kind in MODELS for teacher in teachers.values())


def _counted(lessons: Lessons, counts: Counter[str]) -> Iterator[TrainingList]:
    with bar(total=len(lessons), label="teach", unit="query") as progress:
        for found in lessons.lists():
            counts["lists"] += 1
            counts["lists_with_labels"] += has_labels(found)
            counts["lists_with_teacher"] += has_teacher(found)
            counts["candidates"] += sum(c.role != DROPPED for c in found.candidates)
            counts["candidates_with_teacher"] += sum(
                c.role != DROPPED and c.teacher_score is not None for c in found.candidates
            )
            progress.update()
            yield found


def _tell(counts: Mapping[str, int]) -> None:
    say(
        f"  {counts['lists']} lists, {counts['lists_with_labels']} of them with labels, "
        f"{counts['lists_with_teacher']} with the teacher's scores, of {counts['candidates_with_teacher']} candidates"
    )
    if "unlabelled_queries" in counts:
        taken, left_out = counts["unlabelled_taken"], ", ".join(_left_out(counts)) or "none was left out"
        say(f"  unlabelled queries: {taken} of {counts['unlabelled_queries']} taken; {left_out}")


REASONS = {
    "unlabelled_repeated": "repeat another one",
    "unlabelled_in_train": "are training queries",
    "unlabelled_same_text_as_held_out": "have the text of a dev or test query",
    "unlabelled_near_duplicate_as_held_out": "have nearly the text of a dev or test query",
}


def _left_out(counts: Mapping[str, int]) -> Iterator[str]:
    return (f"{counts[name]} {reason}" for name, reason in REASONS.items() if counts.get(name))
