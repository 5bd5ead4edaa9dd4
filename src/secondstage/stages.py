"""The stages of a run: what each is made from, and how; a stage's own code is imported when its turn comes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import firststage
from .collection import Collection
from .config import TEACHER, Config, Section
from .distillation import Distillation
from .embeddings import EMBEDDINGS
from .files import fingerprint, read_manifest
from .inputs import evaluated, mined_from, taught_from, tuned_from
from .intake import write_collection
from .plan import Stage
from .scorecache import SCORES
from .sources import open_source
from .version import __version__

if TYPE_CHECKING:
    from secondstage.mine import Source


class Stages:
    """How the stages of one run are made.

    Attributes:
        config: of the run.
        output: its folder.
        untrained: whether the reranker of the bundle is a model that is taken as it is.
        distilled: the teacher and the student; none where there is no student.
        trained: the stage whose reranker is put into the bundle.
        lists: the stage whose lists this one learns from.
    """

    def __init__(self, config: Config, output: Path) -> None:
        self.config, self.output = config, output
        self.distilled = None if config.distill is None else Distillation(config, config.distill, output)
        self.untrained = config.train.steps == 0 and self.distilled is None
        self.trained, self.lists = ("train", "mine") if self.distilled is None else ("student", "teach")
        self._source = open_source(config.collection)

    def plan(self, *, evaluating: bool = True) -> tuple[Stage, ...]:
        """The stages in order. Nothing is read yet but what the fingerprints need.

        What only an evaluation needs is looked for where there will be one. A stage's own fingerprint covers its
        settings and the version; what the stages before it made is added when its turn comes.
        """
        config, seed = self.config, self.config.seed
        # Where a collection lies does not matter, only what is in it.
        nowhere: dict[str, Any] = {"source": None, "documents": None, "queries": None, "qrels": {}}
        content = config.collection.model_copy(update=nowhere)
        proof = evaluated(config.evaluate) if evaluating else {}
        # Only as deep as training needs: to change the pipeline must not train again.
        others = "dev only" if self.untrained else mined_from(config.mine, self.output)
        mined = (config.train.dev_depth, seed, others)
        return (
            self._stage("collection", self.make_collection, content, self._source.fingerprint(), seed),
            self._stage(
                "first_stage", self.make_first_stage, config.first_stage, firststage.made_from(config.first_stage)
            )._replace(share=self.share_first_stage),
            self._stage("mine", self.make_lists, config.mine, *mined)._replace(share=self.share_lists),
            self._stage("train", self.make_reranker, config.train, tuned_from(config.train), seed),
            *self._distilling(),
            self._stage("bundle", self.make_bundle, config.serve, config.mine.dev_queries, seed),
            self._stage("evaluation", self.make_evaluation, config.evaluate, proof, seed),
        )

    def _distilling(self) -> tuple[Stage, ...]:
        """The stages of a student; none where there is none."""
        if self.distilled is None:
            return ()
        section, seed = self.distilled.config, self.config.seed
        # Who else scores, and what is scored: to tune the student otherwise must not score again.
        settings = section.model_dump(mode="json", exclude={"student", "queries"})
        taught = fingerprint("teach", __version__, settings, taught_from(section), seed)
        return (
            Stage("teach", taught, self.make_lessons, self.share_lessons),
            self._stage("student", self.make_student, section.student, tuned_from(section.student), seed),
        )

    def make_collection(self, target: Path) -> dict[str, Any]:
        """Read, validate and store the collection."""
        settings = self.config.collection
        return write_collection(
            self._source,
            target,
            dev_share=settings.dev_share,
            seed=self.config.seed,
            drop_invalid=settings.drop_invalid,
        )

    def make_first_stage(self, target: Path) -> dict[str, Any]:
        """Build the index."""
        collection, settings = self.collection(), self.config.first_stage
        cache = self.output / EMBEDDINGS
        built = firststage.build(settings, collection.documents, cache=cache, queries=collection.queries)
        firststage.save(built, settings, target)
        return {}

    def share_first_stage(self) -> None:
        """Encode this process's share of the documents."""
        firststage.share(self.config.first_stage, self.collection().documents, self.output / EMBEDDINGS)

    def make_lists(self, target: Path) -> dict[str, Any]:
        """Mine."""
        from secondstage.mine import mine

        config, source = self.config, self.mining_source()
        # A teacher that was trained elsewhere may teach by unlabelled queries alone.
        labels = "train" in source.collection.qrels or config.mine.synthesize is not None
        dev_only = config.train.steps == 0 and not (self.distilled and labels)
        return mine(source, target, dev_depth=config.train.dev_depth, dev_only=dev_only)

    def share_lists(self) -> None:
        """Search and score this process's share of the queries."""
        from secondstage.mine import share

        if not self.untrained:
            share(self.mining_source())

    def make_reranker(self, target: Path) -> dict[str, Any]:
        """Train."""
        from secondstage.train import train

        config, scores = self.config, self.output / SCORES
        return train(
            self.collection(), self.folder("mine"), config.train, seed=config.seed, folder=target, scores=scores
        )

    def make_lessons(self, target: Path) -> dict[str, Any]:
        """Have the teacher score what the student learns from."""
        from secondstage.mine import teach

        assert self.distilled is not None
        return teach(
            self.mining_source(), self.folder("mine"), self.distilled.config, self.distilled.teachers(), target
        )

    def share_lessons(self) -> None:
        """Search and score this process's share of it."""
        from secondstage.mine import share_teaching

        assert self.distilled is not None
        share_teaching(self.mining_source(), self.folder("mine"), self.distilled.config, self.distilled.teachers())

    def make_student(self, target: Path) -> dict[str, Any]:
        """Train the student."""
        from secondstage.train import train

        assert self.distilled is not None
        config, scores = self.distilled.training(), self.output / SCORES
        return train(
            self.collection(), self.folder("teach"), config, seed=self.config.seed, folder=target, scores=scores
        )

    def make_bundle(self, target: Path) -> dict[str, Any]:
        """Put the pipeline together."""
        from secondstage.serve import make_bundle

        return make_bundle(
            self.collection(),
            self.folder("first_stage"),
            self.folder(self.trained),
            self.config.serve,
            target,
            seed=self.config.seed,
            scores=self.output / SCORES,
            dev_queries=self.config.mine.dev_queries,
            saw_train=not self.untrained,
            mined=self.folder(self.lists),
        )

    def make_evaluation(self, target: Path) -> dict[str, Any]:
        """Prove it."""
        from secondstage.serve import Start, evaluate_bundle

        config = self.config
        tuned = config.train if self.distilled is None else self.distilled.config.student
        # The teacher is beside its student anyway.
        as_it_was = self.untrained or tuned.model == TEACHER
        start = None if as_it_was else Start(tuned.model, tuned.max_length, config.seed)
        kinds = ("first_stage", "mine", "train", *(("teach", "student") if self.distilled else ()), "bundle")
        manifests = {kind: read_manifest(self.folder(kind), kind) for kind in kinds}
        evaluate_bundle(
            self.collection(),
            self.folder("bundle"),
            self.distilled.evaluated() if self.distilled else config.evaluate,
            start=start,
            seed=config.seed,
            folder=target,
            scores=self.output / SCORES,
            choices=manifests["bundle"]["choices"],
            serve=config.serve,
            seconds={kind: manifest["seconds"] for kind, manifest in manifests.items()},
            trained=not self.untrained,
            mined=self.folder(self.lists),
        )
        return {}

    def folder(self, kind: str) -> Path:
        """Where a stage is."""
        return self.output / kind

    def collection(self) -> Collection:
        """The stored collection."""
        return Collection.load(self.folder("collection"))

    def mining_source(self) -> Source:
        """What is mined."""
        from secondstage.mine import Source

        # The index holds row numbers: which documents these are is the collection's word.
        documents = read_manifest(self.folder("collection"), "collection")["files"]["documents.arrow"]
        index = read_manifest(self.folder("first_stage"), "first_stage")["files"]
        made_from = fingerprint(__version__, documents, index)
        first_stage = firststage.load(self.folder("first_stage"))
        return Source(self.collection(), first_stage, made_from, self.config.mine, self.config.seed, self.output)

    @staticmethod
    def _stage(kind: str, make: Callable[[Path], dict[str, Any]], section: Section, *others: object) -> Stage:
        return Stage(kind, fingerprint(kind, __version__, section.model_dump(mode="json"), others), make)
