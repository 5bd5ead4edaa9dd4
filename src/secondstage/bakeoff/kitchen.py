"""Makes cells: each a training of its own, over the one collection, first stage and dev lists of all."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import firststage
from ..collection import Collection, Qrels
from ..commands import check_models, check_splits
from ..config import Config
from ..config.bakeoff import BakeoffConfig
from ..errors import Faults, UserError
from ..files import MANIFEST, fingerprint, read_json, recover, sweep
from ..firststage import answered, search_run
from ..leakage import Basis, met_in_training, spare
from ..measures import Values, evaluate
from ..plan import Stage, carry_out
from ..progress import say
from ..rerankers import load_reranker
from ..run import Run, read_trec
from ..splits import answerable, choose_queries
from ..stages import Stages
from ..version import __version__
from .cells import Cell
from .recipes import Recipe
from .results import MEASURE

# What is made once; the stages after it, up to the last, are a recipe's own.
COMMON = ("collection", "first_stage")
# The stages that can be the last of a cell: a student is trained after its teacher.
TRAINED = ("student", "train")
LISTS = "lists"
# The weight of the reranker in the value of a pipeline: one that is chosen would be fitted to the queries that decide.
HALF = 0.5


class Kitchen:
    """Makes cells below `folder`, and finds what they share below the output of the run.

    A recipe's stages before training are folders by their fingerprints: recipes with the same settings share them.
    """

    def __init__(self, config: Config, settings: BakeoffConfig, output: Path) -> None:
        """Nothing is made yet."""
        self.config, self.settings = config, settings
        self.folder = output / "bakeoff"
        self.stages = Stages(config, output)
        self.made: list[Mapping[str, Any]] = []
        """The files of what is common."""

    def check(self, recipes: list[Recipe]) -> None:
        """Look for every model and file that a recipe names; `UserError` reports all that are missing, or no model."""
        faults = Faults("bakeoff")
        for recipe in recipes:
            try:
                check_models(recipe.config, self._plan(recipe, self.settings.seeds[0], {}), self.folder)
            except UserError as error:
                faults.add(f"recipes: {recipe.name}: {error}")
        faults.raise_if_any()

    def prepare(self) -> None:
        """Make the collection, the first stage and the lists that decide, as far as they are not there."""
        for stage in self.stages.plan(evaluating=False)[: len(COMMON)]:
            manifest = carry_out(stage.after(self.made), self.stages.output)
            self.made.append(manifest)
            if stage.kind == "collection":
                for note in manifest["notes"]:
                    say(f"  {note}")
                check_splits(manifest, self.config, "train")
                self.collection.split(self.settings.split)  # that there is one
        settings = self.settings
        choice = ("spared", settings.split, settings.max_queries, settings.depth, self.config.seed, self._files)
        self._carry_out(Stage(LISTS, fingerprint(LISTS, __version__, choice), self._make_lists), self.folder)

    def key(self, recipe: Recipe, seed: int) -> str:
        """What was made is part of it, what would be mined is not: it follows from the settings."""
        stages = [stage.fingerprint for stage in self._plan(recipe, seed, {})]
        split = () if self.settings.split == "dev" else (self.settings.split,)
        scored = (MEASURE, self.settings.depth, HALF, self.config.serve.precision, *split)
        return fingerprint(stages, self._files, sorted(self.run), scored)

    def make(self, recipe: Recipe, seed: int) -> Cell:
        """Mine, train, and score the lists that decide."""
        # Filled as the stages are made: each finds those before it here.
        places: dict[str, Path] = {}
        made, prepared, manifest = list(self.made), 0.0, dict[str, Any]()
        plan = self._plan(recipe, seed, places)
        last = plan[-1].kind
        for stage in plan:
            stage = stage.after(made)
            shared = self.folder / "shared" / stage.fingerprint[:16]
            parent = self._cell(recipe.name, seed) if stage.kind == last else shared
            places[stage.kind] = parent / stage.kind
            manifest = self._carry_out(stage, parent)
            made.append(manifest)
            prepared += 0.0 if stage.kind == last else manifest["seconds"]
        start = time.monotonic()
        values = self._values(places[last] / "reranker", f"{recipe.name}, seed {seed}")
        return Cell(
            self.key(recipe, seed),
            recipe.name,
            seed,
            values,
            int(manifest.get("steps", 0)),
            int(manifest.get("tokens", 0)) - int(manifest.get("padding", 0)),
            float(manifest["seconds"]),
            prepared,
            sum(len(ranking.doc_ids) for ranking in self.run.values()),
            round(time.monotonic() - start, 3),
            manifest["fingerprint"],
        )

    def discard(self, recipe: str, seed: int) -> None:
        """Delete the weights; what the training logged stays."""
        for path in self._rerankers(recipe, seed):
            shutil.rmtree(path, ignore_errors=True)

    def reranker(self, recipe: str, seed: int) -> Path:
        """Where a cell's reranker is, or was."""
        found = self._rerankers(recipe, seed)
        return next((path for path in found if path.is_dir()), found[-1])

    def _rerankers(self, recipe: str, seed: int) -> list[Path]:
        return [self._cell(recipe, seed) / kind / "reranker" for kind in TRAINED]

    def kept(self, cell: Cell) -> Path | None:
        """Where a cell's own reranker is; none if it is gone, or of a recipe that had its name at another time."""
        for path in self._rerankers(cell.recipe, cell.seed):
            if path.is_dir() and read_json(path.parent / MANIFEST)["fingerprint"] == cell.training:
                return path
        return None

    def first_stage(self) -> Values:
        """The measure of the lists as they are, by query."""
        return evaluate(self.run, self.qrels, [MEASURE])[MEASURE]

    @cached_property
    def collection(self) -> Collection:
        """The one collection."""
        return self.stages.collection()

    @cached_property
    def run(self) -> Run:
        """The lists that decide."""
        return read_trec(self.folder / LISTS / "run.trec")

    @cached_property
    def qrels(self) -> Qrels:
        """Their judgements."""
        judged = self.collection.split(self.settings.split)
        return {query_id: judged[query_id] for query_id in self._chosen()}

    @cached_property
    def basis(self) -> Basis:
        """The queries that decide, before some of them are drawn: as far as there are enough, none that `train` knows.

        The train split is taken for what training met, so that they are the same for all recipes and seeds.
        """
        collection = self.collection
        met = met_in_training(collection, None, trained=True)
        return spare(collection.queries, answerable(collection.split(self.settings.split)), met)

    def _chosen(self) -> list[str]:
        return choose_queries(self.basis.qrels, self.settings.max_queries, self.config.seed)

    def _make_lists(self, target: Path) -> dict[str, Any]:
        collection, split = self.collection, self.settings.split
        chosen = self._chosen()
        if not chosen:
            raise UserError(f"no query of the {split!r} split has a relevant document: nothing can be chosen on it")
        first_stage = firststage.load(self.stages.folder("first_stage"))
        # A first stage of the kind run has no lists for some: they count as zero for all.
        texts = set(answered(first_stage, [collection.queries[query_id] for query_id in chosen]))
        queries = {q: collection.queries[q] for q in chosen if collection.queries[q] in texts}
        run = search_run(first_stage, collection.documents.ids, queries, self.settings.depth)
        run.write_trec(target / "run.trec")
        return {"queries": len(chosen)}

    def _values(self, reranker: Path, label: str) -> dict[str, Values]:
        from secondstage.serve.fuse import fuse

        serve, collection = self.config.serve, self.collection
        model = load_reranker(reranker, batch_tokens=serve.batch_tokens, precision=serve.precision)
        reranked = model.rerank(self.run, collection.queries, collection.documents, label=label)
        systems = {"reranked": reranked, "pipeline": fuse(self.run, reranked, HALF)}
        return {name: evaluate(run, self.qrels, [MEASURE])[MEASURE] for name, run in systems.items()}

    def _plan(self, recipe: Recipe, seed: int, places: Mapping[str, Path]) -> list[Stage]:
        """The stages of a recipe's own, the last of them training."""
        config = recipe.config.model_copy(update={"seed": seed})
        own = self.stages.like(config, places)
        stages = own.plan(evaluating=False)
        kinds = [stage.kind for stage in stages]
        return list(stages[len(COMMON) : kinds.index(own.trained) + 1])

    @property
    def _files(self) -> list[Any]:
        """What was made, without what it took."""
        return [manifest["files"] for manifest in self.made]

    def _cell(self, recipe: str, seed: int) -> Path:
        return self.folder / "cells" / recipe / str(seed)

    @staticmethod
    def _carry_out(stage: Stage, parent: Path) -> dict[str, Any]:
        recover(parent / stage.kind)
        sweep(parent / stage.kind)
        return carry_out(stage, parent)
