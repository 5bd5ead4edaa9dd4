"""Where the stages of one run are, and what is read of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from . import firststage
from .collection import Collection
from .config import Config, MineConfig, Section
from .distillation import Distillation
from .files import fingerprint, read_manifest
from .plan import Stage
from .sources import open_source
from .version import __version__

if TYPE_CHECKING:
    from secondstage.mine import Source

# What trainings go on from after they were stopped, below a run's output.
CHECKPOINTS = "checkpoints"
# Where token rows of pairs are kept, below a run's output.
TOKENS = "tokens"
# Settings of training that change nothing of what is learnt.
NOT_LEARNT = {"checkpoint_minutes", "checkpoint_steps", "keep_checkpoints", "tracker"}


class Site:
    """One run.

    Attributes:
        config: of the run.
        output: its folder.
        places: of the stages that are not in it, by kind.
        distilled: the teacher and the student; none where there is no student.
        untrained: whether the reranker of the bundle is a model that is taken as it is.
        warmed: whether training may start from a warmed-up model.
        trained: the stage whose reranker is put into the bundle.
        lists: the stage whose lists this one learns from.
    """

    def __init__(self, config: Config, output: Path) -> None:
        self.output = output
        self._source = open_source(config.collection)
        self._take(config, {})

    def _take(self, config: Config, places: Mapping[str, Path]) -> None:
        self.config, self.places = config, places
        self.distilled = None if config.distill is None else Distillation(config, config.distill, self.folder)
        self.untrained = config.train.steps == 0 and self.distilled is None
        trains = self.distilled is None or self.distilled.trains
        self.warmed = trains and config.warms
        self.trained, self.lists = ("train", "mine") if self.distilled is None else ("student", "teach")

    def like(self, config: Config, places: Mapping[str, Path]) -> Self:
        """The same of another config over the same collection, which is not read again, some stages at other places."""
        _ = self.content  # kept, and copied with the rest
        other = copy(self)
        other._take(config, places)
        return other

    @cached_property
    def content(self) -> str:
        """What the collection is read from."""
        return self._source.fingerprint()

    def folder(self, kind: str) -> Path:
        """Where a stage is."""
        return self.places.get(kind, self.output / kind)

    def collection(self) -> Collection:
        """The stored collection."""
        return Collection.load(self.folder("collection"))

    def work(self, kind: str, *parts: object) -> Path:
        """Where the checkpoints of a training are: of what decides it, the stages before it included.

        Args:
            kind: of the stage.
            parts: its settings, what it reads beside them, and the kinds of the stages that it reads.
        """
        read = {part: read_manifest(self.folder(part), part)["files"] for part in parts if isinstance(part, str)}
        settings: list[object] = [
            part.model_dump(mode="json", exclude=NOT_LEARNT) if isinstance(part, Section) else part
            for part in parts
            if not isinstance(part, str)
        ]
        made_from = fingerprint(kind, __version__, settings, read, self.config.seed)
        return self.output / CHECKPOINTS / f"{kind}-{made_from[:16]}"

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
    def stage(kind: str, make: Callable[[Path], dict[str, Any]], section: Section, *others: object) -> Stage:
        """A stage, with the fingerprint of its settings."""
        settings = section.model_dump(mode="json", exclude=NOT_LEARNT)
        return Stage(kind, fingerprint(kind, __version__, settings, others), make)
