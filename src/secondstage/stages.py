"""The stages of a run: what each is made from, and how; a stage's own code is imported when its turn comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import firststage
from .collection import Collection
from .config import Config, MineConfig, Section, WarmupConfig, in_warmup_words
from .embeddings import EMBEDDINGS
from .errors import UserError
from .files import file_digest, fingerprint, read_manifest
from .inputs import evaluated, mined_from, replayed_steps
from .intake import write_collection
from .models import identity
from .plan import Stage
from .scorecache import SCORES
from .sources import open_source
from .synthetic import SYNTHETIC
from .version import __version__

if TYPE_CHECKING:
    from secondstage.mine import Source

DOCUMENTS = "collection/documents.arrow"
WARMUP_LISTS, WARMUP = "warmup_lists", "warmup"
WARMUP_KINDS = (WARMUP_LISTS, WARMUP)
# What a stage reads that has nothing to do with a warm-up.
BUT_WARMUP = ("collection/", "first_stage/", "mine/", "train/", "bundle/")


class Stages:
    """How the stages of one run are made.

    Attributes:
        config: of the run.
        output: its folder.
        places: of the stages that are not in it, by kind.
        untrained: whether the model is taken as it is: then nothing is mined for it.
        warmed: whether training may start from a warmed-up model.
    """

    def __init__(self, config: Config, output: Path) -> None:
        self.config, self.output = config, output
        self.places: Mapping[str, Path] = {}
        self.untrained = config.train.steps == 0
        self.warmed = config.warmup is not None and config.warmup.use != "never"
        self._source = open_source(config.collection)

    def like(self, config: Config, places: Mapping[str, Path]) -> Stages:
        """Those of another config over the same collection, whose files are not read again, some at other places."""
        _ = self._content  # kept, and copied with the rest
        other = copy(self)
        other.config, other.places, other.untrained = config, places, config.train.steps == 0
        return other

    @cached_property
    def _content(self) -> str:
        return self._source.fingerprint()

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
        use = config.warmup.use if config.warmup is not None and self.warmed else "never"
        # An index holds documents; the lists of the kind run are those of queries.
        indexed = (DOCUMENTS,) if config.first_stage.kind != "run" else BUT_WARMUP
        trained = ("",) if self.warmed else BUT_WARMUP
        first_stage, model = config.first_stage, identity(config.train.model)
        stage = self._stage
        return (
            stage("collection", self.make_collection, content, self._content, seed),
            stage("first_stage", self.make_first_stage, first_stage, firststage.made_from(first_stage))._replace(
                share=self.share_first_stage, reads=indexed
            ),
            *self.plan_warmup(),
            stage("mine", self.make_lists, config.mine, *mined)._replace(share=self.share_lists, reads=BUT_WARMUP),
            stage("train", self.make_reranker, config.train, model, replayed, use, seed)._replace(reads=trained),
            stage("bundle", self.make_bundle, config.serve, config.mine.dev_queries, seed)._replace(reads=trained),
            stage("evaluation", self.make_evaluation, config.evaluate, proof, seed)._replace(reads=trained),
        )

    def plan_warmup(self) -> tuple[Stage, ...]:
        """The stages of the warm-up, if there is one: they read no query and no label, and know nothing of its use."""
        if self.config.warmup is None:
            return ()
        seed, training = self.config.seed, self.warmup.training(self.config.train)
        lists = (f"{WARMUP_LISTS}/train/", f"{WARMUP_LISTS}/{SYNTHETIC}")
        return (
            self._stage(WARMUP_LISTS, self.make_warmup_lists, self.warmup.mining, seed)._replace(
                reads=(DOCUMENTS, "first_stage/")
            ),
            self._stage(WARMUP, self.make_warmup, training, identity(training.model), seed)._replace(
                reads=(DOCUMENTS, *lists)
            ),
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

    def make_warmup_lists(self, target: Path) -> dict[str, Any]:
        """Mine for the titles or first sentences of the documents."""
        from secondstage.mine import mine

        try:
            source = self.mining_source(self.warmup.mining)
            return mine(source._replace(collection=source.collection.documents_only()), target, dev_depth=1)
        except UserError as error:
            raise UserError(in_warmup_words(str(error))) from error

    def make_warmup(self, target: Path) -> dict[str, Any]:
        """Train on what was mined for these."""
        from secondstage.train import train

        config = self.warmup.training(self.config.train)
        documents = self.collection().documents_only()
        try:
            return train(documents, self.folder(WARMUP_LISTS), config, seed=self.config.seed, folder=target)
        except UserError as error:
            raise UserError(in_warmup_words(str(error))) from error

    def make_lists(self, target: Path) -> dict[str, Any]:
        """Mine."""
        from secondstage.mine import mine

        dev_depth = self.config.train.dev_depth
        return mine(self.mining_source(self.config.mine), target, dev_depth=dev_depth, dev_only=self.untrained)

    def share_lists(self) -> None:
        """Search and score this process's share of the queries."""
        from secondstage.mine import share

        if not self.untrained:
            share(self.mining_source(self.config.mine))

    def make_reranker(self, target: Path) -> dict[str, Any]:
        """Train."""
        from secondstage.train import train

        return train(
            self.collection(),
            self.folder("mine"),
            self.config.train,
            seed=self.config.seed,
            folder=target,
            warmed=self.folder(WARMUP) / "reranker" if self.warmed else None,
            choose=self.warmed and self.warmup.use == "auto",
        )

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
            warmed=self.warmed_on(),
        )

    def make_evaluation(self, target: Path) -> dict[str, Any]:
        """Prove it."""
        from secondstage.serve import Start, evaluate_bundle

        config = self.config
        train = config.train
        as_it_is = self.untrained and self.warmed_on() is None
        start = None if as_it_is else Start(train.model, train.max_length, config.seed, train.head, train.instruction)
        kinds = ("first_stage", *(WARMUP_KINDS if self.warmed else ()), "mine", "train", "bundle")
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
            warmed=self.warmed_on(),
        )
        return {}

    def folder(self, kind: str) -> Path:
        """Where a stage is."""
        return self.places.get(kind, self.output / kind)

    def collection(self) -> Collection:
        """The stored collection."""
        return Collection.load(self.folder("collection"))

    @property
    def warmup(self) -> WarmupConfig:
        """The section of the warm-up, where there is one."""
        assert self.config.warmup is not None
        return self.config.warmup

    def warmed_on(self) -> Path | None:
        """The lists of the warm-up that the reranker started from; none if it started without one."""
        started_warm = self.warmed and read_manifest(self.folder("train"), "train").get("start") == WARMUP
        return self.folder(WARMUP_LISTS) if started_warm else None

    def mining_source(self, config: MineConfig) -> Source:
        """What is mined, and how."""
        from secondstage.mine import Source

        # The index holds row numbers: which documents these are is the collection's word.
        documents = read_manifest(self.folder("collection"), "collection")["files"]["documents.arrow"]
        index = read_manifest(self.folder("first_stage"), "first_stage")["files"]
        made_from = fingerprint(__version__, documents, index)
        first_stage = firststage.load(self.folder("first_stage"))
        return Source(self.collection(), first_stage, made_from, config, self.config.seed, self.output)

    @staticmethod
    def _stage(kind: str, make: Callable[[Path], dict[str, Any]], section: Section, *others: object) -> Stage:
        return Stage(kind, fingerprint(kind, __version__, section.model_dump(mode="json"), others), make)
