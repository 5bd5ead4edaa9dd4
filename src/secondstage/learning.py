"""The stages that learn: warm-up, mining, training, and what a student learns from its teacher."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import TrainConfig, WarmupConfig, in_warmup_words
from .errors import UserError
from .files import fingerprint, read_manifest
from .inputs import mined_from, taught_from, tuned_from
from .models import identity
from .plan import Stage
from .progress import speaking
from .scorecache import SCORES
from .site import TOKENS, Site
from .synthetic import SYNTHETIC
from .version import __version__

if TYPE_CHECKING:
    from secondstage.train import Task

DOCUMENTS = "collection/documents.arrow"
WARMUP_LISTS, WARMUP, STUDENT = "warmup_lists", "warmup", "student"
WARMUP_KINDS = (WARMUP_LISTS, WARMUP)
# What a stage reads that has nothing to do with a warm-up. Of a training the model, not what a clock measured besides.
BUT_WARMUP = (
    "collection/",
    "first_stage/",
    "mine/",
    "train/reranker/",
    "teach/",
    "student/reranker/",
    "bundle/",
)
# Keys of training: `qrels/train.tsv` is a file.
TRAIN_KEYS = re.compile(rf"(?<![\w./])train\.({'|'.join(TrainConfig.model_fields)})\b")


class Learning(Site):
    """How the stages from the first stage to the reranker are made."""

    def plan_warmup(self) -> tuple[Stage, ...]:
        """The stages of the warm-up, if there is one: they read no query and no label, and know nothing of its use."""
        if self.config.warmup is None:
            return ()
        seed, training = self.config.seed, self.warmup.training(self.config.train)
        lists = (f"{WARMUP_LISTS}/train/", f"{WARMUP_LISTS}/{SYNTHETIC}")
        return (
            self.stage(WARMUP_LISTS, self.make_warmup_lists, self.warmup.mining, seed)._replace(
                reads=(DOCUMENTS, "first_stage/")
            ),
            self._training(WARMUP, training, identity(training.model), seed)._replace(reads=(DOCUMENTS, *lists)),
        )

    def plan_learning(self) -> tuple[Stage, ...]:
        """Mining and training."""
        config, seed = self.config, self.config.seed
        # Only as deep as training needs: to change the pipeline must not train again.
        others = "dev only" if self.untrained else mined_from(config.mine, self.output)
        use = config.warmup.use if config.warmup is not None and self.warmed else "never"
        mine = self.stage("mine", self.make_lists, config.mine, config.train.dev_depth, seed, others)
        mine = mine._replace(share=self.share_lists, reads=BUT_WARMUP)
        if self.distilled is not None and not self.distilled.trains:
            return (mine,)
        train = self._training("train", config.train, tuned_from(config.train), use, seed)
        return mine, train._replace(reads=self.reads)

    def plan_distilling(self) -> tuple[Stage, ...]:
        """The stages of a student; none where there is none."""
        if self.distilled is None:
            return ()
        section, seed = self.distilled.config, self.config.seed
        # Who else scores, and what is scored: to tune the student otherwise must not score again.
        settings = section.model_dump(mode="json", exclude={"student", "queries"})
        taught = fingerprint("teach", __version__, settings, taught_from(section, self.config.mine), seed)
        with speaking_of(STUDENT):
            tuned = tuned_from(section.student)
        student = self._training(STUDENT, section.student, tuned, seed)
        return (
            Stage("teach", taught, self.make_lessons, self.share_lessons, self.reads),
            student._replace(reads=self.reads),
        )

    @property
    def reads(self) -> tuple[str, ...]:
        """What training, and all that follows it, reads of the stages before it."""
        return (*BUT_WARMUP, f"{WARMUP_LISTS}/", f"{WARMUP}/reranker/") if self.warmed else BUT_WARMUP

    @property
    def warmup(self) -> WarmupConfig:
        """The section of the warm-up, where there is one."""
        assert self.config.warmup is not None
        return self.config.warmup

    def warmed_on(self) -> Path | None:
        """The lists of the warm-up that the reranker started from; none if it started without one."""
        started_warm = self.warmed and read_manifest(self.folder("train"), "train").get("start") == WARMUP
        return self.folder(WARMUP_LISTS) if started_warm else None

    def make_warmup_lists(self, target: Path) -> dict[str, Any]:
        """Mine for the titles or first sentences of the documents."""
        from secondstage.mine import mine

        with speaking_of(WARMUP):
            source = self.mining_source(self.warmup.mining)
            return mine(source._replace(collection=source.collection.documents_only()), target, dev_depth=1)

    def make_lists(self, target: Path) -> dict[str, Any]:
        """Mine."""
        from secondstage.mine import mine

        config, source = self.config, self.mining_source(self.config.mine)
        # A teacher that was trained elsewhere may teach by unlabelled queries alone.
        labels = "train" in source.collection.qrels or config.mine.synthesize is not None
        dev_only = not config.trains and not (self.distilled and labels)
        return mine(source, target, dev_depth=config.train.dev_depth, dev_only=dev_only)

    def share_lists(self) -> None:
        """Search and score this process's share of the queries."""
        from secondstage.mine import share

        if not self.untrained:
            share(self.mining_source(self.config.mine))

    def make_lessons(self, target: Path) -> dict[str, Any]:
        """Have the teacher score what the student learns from."""
        from secondstage.mine import teach

        assert self.distilled is not None
        source = self.mining_source(self.config.mine)
        return teach(source, self.folder("mine"), self.distilled.config, self.distilled.teachers(), target)

    def share_lessons(self) -> None:
        """Search and score this process's share of it."""
        from secondstage.mine import share_teaching

        assert self.distilled is not None
        source = self.mining_source(self.config.mine)
        share_teaching(source, self.folder("mine"), self.distilled.config, self.distilled.teachers())

    def _training(self, kind: str, section: TrainConfig, *others: object) -> Stage:
        """A stage that trains: made together, with checkpoints of its own."""
        made = self.stage(kind, partial(self._train, kind), section, *others)
        return made._replace(share=partial(self._share, kind), tidy=partial(self._tidy, kind))

    def _train(self, kind: str, target: Path) -> dict[str, Any]:
        from secondstage.train import train

        with speaking_of(kind):
            return train(self._task(kind), target, self._work(kind))

    def _share(self, kind: str) -> None:
        from secondstage.train import share

        with speaking_of(kind):
            share(self._task(kind), self._work(kind))

    def _task(self, kind: str) -> Task:
        """What a training stage is given."""
        from secondstage.train import Task

        config, seed, tokens = self.config, self.config.seed, self.output / TOKENS
        if kind == WARMUP:
            documents = self.collection().documents_only()
            training = self.warmup.training(config.train)
            return Task(documents, self.folder(WARMUP_LISTS), training, seed, tokens=tokens, section=None)
        scores = self.output / SCORES
        if kind == STUDENT:
            assert self.distilled is not None
            training, lists = self.distilled.training(), self.folder("teach")
            more: dict[str, Any] = {"section": "distill.student", "teacher": self.distilled.name}
            return Task(self.collection(), lists, training, seed, scores=scores, tokens=tokens, **more)
        task = Task(self.collection(), self.folder("mine"), config.train, seed, scores=scores, tokens=tokens)
        if not self.warmed:
            return task
        warmed, lists = self.folder(WARMUP) / "reranker", self.folder(WARMUP_LISTS)
        return task._replace(warmed=warmed, warmed_on=lists, choose=self.warmup.use == "auto")

    def _work(self, kind: str) -> Path:
        """Where a training stage keeps its checkpoints."""
        config = self.config
        if kind == WARMUP:
            training = self.warmup.training(config.train)
            return self.work(kind, training, {"model": identity(training.model)}, WARMUP_LISTS)
        if kind == STUDENT:
            assert self.distilled is not None
            student = self.distilled.config.student
            made = ("train",) if self.distilled.trains else ()
            return self.work(kind, student, tuned_from(student), "collection", "teach", *made)
        started = (self.warmup, WARMUP) if self.warmed else ()
        return self.work(kind, config.train, tuned_from(config.train), "collection", "mine", *started)

    def _tidy(self, kind: str) -> None:
        """Delete the checkpoints of a training that is done, and their folder after the last one."""
        work = self._work(kind)
        shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):
            work.parent.rmdir()


@contextmanager
def speaking_of(kind: str) -> Iterator[None]:
    """What is said of a warm-up, and of a student, names its own keys, and not those of mining and training."""
    try:
        with speaking(partial(in_words_of, kind)):
            yield
    except UserError as error:
        told = in_words_of(kind, str(error))
        if told == str(error):
            raise
        raise UserError(told) from error


def in_words_of(kind: str, text: str) -> str:
    """What mining or training says, with the keys of the stage that it is said of."""
    if kind == WARMUP:
        return in_warmup_words(text)
    if kind == STUDENT:
        # Who teaches it is no matter of its training.
        return TRAIN_KEYS.sub(r"distill.student.\1", text.replace("train.teacher", "distill.teacher"))
    return text
