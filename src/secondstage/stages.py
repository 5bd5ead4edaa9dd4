"""The stages of a run: what each is made from, and how; a stage's own code is imported when its turn comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import firststage
from .backends.record import engine_digests
from .config import TEACHER
from .embeddings import EMBEDDINGS
from .files import read_manifest
from .inputs import cascaded, evaluated
from .intake import write_collection
from .learning import BUT_WARMUP, DOCUMENTS, WARMUP_KINDS, Learning
from .plan import Stage
from .scorecache import SCORES

__all__ = ["WARMUP_KINDS", "Stages"]


class Stages(Learning):
    """How the stages of one run are made."""

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
        # An index holds documents; the lists of the kind run are those of queries.
        indexed = (DOCUMENTS,) if config.first_stage.kind != "run" else BUT_WARMUP
        before = cascaded(config.serve)
        first_stage, stage, reads = config.first_stage, self.stage, self.reads
        return (
            stage("collection", self.make_collection, content, self.content, seed),
            stage("first_stage", self.make_first_stage, first_stage, firststage.made_from(first_stage))._replace(
                share=self.share_first_stage, reads=indexed
            ),
            *self.plan_warmup(),
            *self.plan_learning(),
            *self.plan_distilling(),
            stage("bundle", self.make_bundle, config.serve, config.mine.dev_queries, seed, *before)._replace(
                reads=reads
            ),
            stage("evaluation", self.make_evaluation, config.evaluate, proof, seed)._replace(
                reads=reads, beside=lambda: engine_digests(self.folder("bundle"), config.serve.backend)
            ),
        )

    def make_collection(self, target: Path) -> dict[str, Any]:
        """Read, validate and store the collection."""
        settings = self.config.collection
        return write_collection(
            self._source,
            target,
            dev_share=settings.dev_share,
            test_share=settings.test_share,
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
            warmed=self.warmed_on(),
        )

    def make_evaluation(self, target: Path) -> dict[str, Any]:
        """Prove it."""
        from secondstage.serve import Start, evaluate_bundle

        config = self.config
        tuned = config.train if self.distilled is None else self.distilled.config.student
        # A student was cut from what is there anyway, the teacher, or from a model with more layers.
        as_it_was = (self.untrained and self.warmed_on() is None) or tuned.model == TEACHER or tuned.student
        start = None if as_it_was else Start(tuned.model, tuned.max_length, config.seed, tuned.head, tuned.instruction)
        warmup = WARMUP_KINDS if self.warmed else ()
        taught = ("teach", "student") if self.distilled else ()
        train = ("train",) if self.distilled is None or self.distilled.trains else ()
        kinds = ("first_stage", *warmup, "mine", *train, *taught, "bundle")
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
            warmed=self.warmed_on(),
        )
        return {}
