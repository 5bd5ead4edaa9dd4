"""The stages of a run: what each is made from, and how; a stage's own code is imported when its turn comes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import firststage
from .collection import Collection
from .config import Config, Section
from .embeddings import EMBEDDINGS
from .files import file_digest, fingerprint, read_manifest
from .inputs import evaluated, mined_from, replayed_steps
from .intake import write_collection
from .models import identity
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
        untrained: whether the model is taken as it is: then nothing is mined for it.
    """

    def __init__(self, config: Config, output: Path) -> None:
        self.config, self.output = config, output
        self.untrained = config.train.steps == 0
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
        replayed = "" if config.train.replay is None else file_digest(replayed_steps(config.train.replay))
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
            self._stage("train", self.make_reranker, config.train, identity(config.train.model), replayed, seed),
            self._stage("bundle", self.make_bundle, config.serve, config.mine.dev_queries, seed),
            self._stage("evaluation", self.make_evaluation, config.evaluate, proof, seed),
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

        dev_depth = self.config.train.dev_depth
        return mine(self.mining_source(), target, dev_depth=dev_depth, dev_only=self.untrained)

    def share_lists(self) -> None:
        """Search and score this process's share of the queries."""
        from secondstage.mine import share

        if not self.untrained:
            share(self.mining_source())

    def make_reranker(self, target: Path) -> dict[str, Any]:
        """Train."""
        from secondstage.train import train

        return train(self.collection(), self.folder("mine"), self.config.train, seed=self.config.seed, folder=target)

    def make_bundle(self, target: Path) -> dict[str, Any]:
        """Put the pipeline together."""
        from secondstage.serve import make_bundle

        return make_bundle(
            self.collection(),
            self.folder("first_stage"),
            self.folder("train"),
            self.config.serve,
            target,
            seed=self.config.seed,
            scores=self.output / SCORES,
            dev_queries=self.config.mine.dev_queries,
            saw_train=not self.untrained,
            mined=self.folder("mine"),
        )

    def make_evaluation(self, target: Path) -> dict[str, Any]:
        """Prove it."""
        from secondstage.serve import Start, evaluate_bundle

        config = self.config
        train = config.train
        start = Start(train.model, train.max_length, config.seed, train.head, train.instruction)
        kinds = ("first_stage", "mine", "train", "bundle")
        manifests = {kind: read_manifest(self.folder(kind), kind) for kind in kinds}
        evaluate_bundle(
            self.collection(),
            self.folder("bundle"),
            config.evaluate,
            start=None if self.untrained else start,
            seed=config.seed,
            folder=target,
            scores=self.output / SCORES,
            choices=manifests["bundle"]["choices"],
            serve=config.serve,
            seconds={kind: manifest["seconds"] for kind, manifest in manifests.items()},
            trained=not self.untrained,
            mined=self.folder("mine"),
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
