"""Students of two and three layers against their six-layer teacher, and against the same students without a teacher."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from secondstage.pairmodel import PairModel
from secondstage.rerankers import load_reranker
from secondstage.serve.fuse import fuse

from .cells import Cell, Cells
from .ground import Ground, Options, column
from .summary import average, difference, gain_kept, ratio

TEACHER = "teacher"
# Test queries whose candidates are scored against the clock.
TIMED = 40


class Students:
    """One run of the product for each model; the rerankers are kept beside the run, which knows only its last one."""

    def __init__(self, options: Options, cells: Cells, *, minutes: float, unlabelled: int | None) -> None:
        """Nothing is trained yet.

        Args:
            options: of all parts.
            cells: what is measured already.
            minutes: of each student.
            unlabelled: queries at most; none means all.
        """
        self.options, self.cells, self.minutes, self.unlabelled = options, cells, minutes, unlabelled
        self.ground, self.experts = Ground("medquad", options), Ground("liveqa-med", options)
        self.models = self.ground.output / "models"
        # What the teacher was made from: part of the key of every student.
        self.taught_by: dict[str, Any] = {}

    def teach(self, minutes: float, given: Path | None) -> Cell:
        """Train the teacher, or take the one that is given."""
        seed = self.options.seeds[0]
        budget: dict[str, Any] = {"train__minutes": minutes}
        if given is not None:
            budget = {"train__steps": 0, "train__model": str(given.resolve())}
        self.taught_by = {"teacher": budget}
        return self._cell(TEACHER, {"budget": budget, "seed": seed}, "domain", seed=seed, **budget)

    def distil(self, layers: int, seed: int) -> Cell:
        """A student of what the teacher says of labelled and unlabelled queries."""
        queries = self.ground.source / "extra" / "unlabelled_queries.jsonl.gz"
        teacher = str((self.models / TEACHER).resolve())
        changes: dict[str, Any] = {
            "train__steps": 0,
            "train__model": teacher,
            "distill__teacher": teacher,
            "distill__queries": str(queries.resolve()),
            "distill__depth": self.options.depth,
            "distill__student__minutes": self.minutes,
            "distill__student__student__layers": layers,
        }
        if self.unlabelled is not None:
            changes["distill__max_queries"] = self.unlabelled
        key = {"layers": layers, "seed": seed, "minutes": self.minutes, "unlabelled": self.unlabelled, **self.taught_by}
        return self._cell(f"distilled-{layers}-{seed}", key, "distill", seed=seed, **changes)

    def label_only(self, layers: int, seed: int) -> Cell:
        """The same layers of the same teacher, tuned as long, and at the same learning rate, on the labels alone."""
        distilled = self.ground.config("distill").distill
        assert distilled is not None
        rate = distilled.student.learning_rate
        changes = {
            "train__model": str((self.models / TEACHER).resolve()),
            "train__student": {"layers": layers},
            "train__minutes": self.minutes,
            "train__learning_rate": rate,
        }
        key = {"layers": layers, "seed": seed, "minutes": self.minutes, "learning_rate": rate, **self.taught_by}
        return self._cell(f"labels-{layers}-{seed}", key, "domain", seed=seed, **changes)

    def _cell(self, name: str, key: Mapping[str, Any], base: str, **changes: Any) -> Cell:
        def make() -> Cell:
            made = self.ground.carry_out("bundle", base, **changes)
            shutil.rmtree(self.models / name, ignore_errors=True)
            shutil.copytree(self.ground.output / "bundle" / "reranker", self.models / name)
            bundle = self.ground.bundle()
            weight = made["choices"]["fusion"]["weight"]
            return {
                "weight": weight,
                **self.ground.orders(bundle),
                **self._experts(bundle.reranker, bundle.weight),
            }

        return self.cells.get(self.options.key("students", model=name, **key), make)

    def _experts(self, reranker: PairModel, weight: float) -> Cell:
        """The same on the questions that experts judged; nothing of that collection was trained on."""
        ground = self.experts
        if not (ground.output / "first_stage").is_dir():
            teacher = str(self.ground.output / "bundle" / "reranker")
            ground.carry_out("bundle", train__steps=0, train__model=teacher, serve__depth=self.options.depth)
        reranked = ground.reranked(reranker, "liveqa-med")
        runs = {"first_stage": ground.run, "reranked": reranked, "pipeline": fuse(ground.run, reranked, weight)}
        return {f"liveqa_{name}": ground.values(run) for name, run in runs.items()}

    def speeds(self, names: Sequence[str], repeats: int) -> dict[str, list[float]]:
        """Pairs a second of each model, which take turns, the first turn being left out."""
        ground = self.ground
        pairs = [
            (ground.collection.queries[query_id], content)
            for query_id, ranking in list(ground.run.items())[:TIMED]
            for content in ground.collection.documents.contents(ranking.doc_ids)
        ]
        rerankers = {name: load_reranker(self.models / name) for name in names}
        found: dict[str, list[float]] = {name: [] for name in names}
        for number in range(repeats + 1):
            for name, reranker in rerankers.items():
                start = time.perf_counter()
                reranker.score(pairs)
                if number:
                    found[name].append(len(pairs) / (time.perf_counter() - start))
        return found


def measure_students(
    options: Options,
    cells: Cells,
    *,
    teacher: Path | None,
    teacher_minutes: float,
    minutes: float,
    unlabelled: int | None,
    layers: Sequence[int],
    repeats: int,
) -> dict[str, Any]:
    """The part `--students`."""
    bench = Students(options, cells, minutes=minutes, unlabelled=unlabelled)
    best = bench.teach(teacher_minutes, teacher)
    alone: dict[int, list[Cell]] = {count: [] for count in layers}
    distilled: dict[int, list[Cell]] = {count: [] for count in layers}
    for seed in options.seeds:  # what was mined and taught is made anew at each seed only
        for count in layers:
            alone[count].append(bench.label_only(count, seed))
            distilled[count].append(bench.distil(count, seed))
    names = [TEACHER, *(f"distilled-{count}-{options.seeds[0]}" for count in layers)]
    key = options.key("speed", models=names, repeats=repeats, **bench.taught_by)
    speeds: dict[str, Any] = cells.get(key, lambda: {"speeds": bench.speeds(names, repeats)})["speeds"]
    found: dict[str, Any] = {TEACHER: _means([best])}
    for count in layers:
        own = speeds[f"distilled-{count}-{options.seeds[0]}"]
        found[str(count)] = {
            **student_figures(best, distilled[count], alone[count]),
            "speed": ratio(own, speeds[TEACHER]),
        }
    return {"students": found}


def student_figures(teacher: Cell, distilled: Sequence[Cell], alone: Sequence[Cell]) -> dict[str, Any]:
    """What a student keeps of its teacher's gain, and what it has over the same one without a teacher."""

    def kept(cells: Sequence[Cell], name: str) -> float | None:
        student, best = average(column(cells, name)), average(column([teacher], name))
        return gain_kept(student, best, average(column([teacher], "first_stage")))

    return {
        "gain_kept": kept(distilled, "reranked"),
        "gain_kept_fused": kept(distilled, "pipeline"),
        "gain_kept_labels_alone": kept(alone, "reranked"),
        "over_labels_alone": difference(column(distilled, "reranked"), column(alone, "reranked")),
        "over_labels_alone_fused": difference(column(distilled, "pipeline"), column(alone, "pipeline")),
        "distilled": _means(distilled),
        "labels_alone": _means(alone),
    }


def _means(cells: Sequence[Cell]) -> dict[str, float]:
    names = ("first_stage", "reranked", "pipeline")
    return {name: average(column(cells, name)) for prefix in ("", "liveqa_") for name in (prefix + n for n in names)}
