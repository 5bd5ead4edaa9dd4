"""One training from one start: what it is given, from lists and dev queries to the folds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from secondstage.compute import release_memory, set_seed, within_memory
from secondstage.config import TrainConfig, on_teacher
from secondstage.files import folder_digests
from secondstage.inputs import check_kind
from secondstage.leakage import met_in_lists, with_warmup
from secondstage.lists import TrainingList, read_index, read_lists
from secondstage.measures import mean
from secondstage.parallel import wait, workers
from secondstage.progress import say
from secondstage.rerankers import load_reranker
from secondstage.run import read_trec
from secondstage.site import TOKENS
from secondstage.texts import texts_of_lists

from .best import RERANKER
from .checks import compare_teacher, overlapping, refuse_new_head
from .facts import describe_lists
from .findings import worse_teacher
from .loop import Loop
from .outlook import outlook
from .pace import heeding_signals
from .selection import DEV_VALUE, Selection, dev_selection
from .stopping import Curve, choose_stop
from .task import Task
from .teaching import taught
from .tracking import DEV, read_lines

# Without dev queries nothing is chosen by them.
NO_DEV = (
    "  no dev query has a relevant document: the last checkpoint is kept (train.evaluations, patience and average "
    "change nothing); label some queries, or have collection.dev_share cut some from train"
)


LESS_MEMORY = (
    "Lower train.memory_tokens, which changes no gradient, or train.batch_tokens; train.gradient_checkpointing=true "
    "keeps fewer activations. With another value the training begins anew; what it was made from is kept"
)


class Training:
    """What one training is given."""

    def __init__(self, task: Task, work: Path) -> None:
        """Read what was mined.

        Args:
            task: what is to be trained, from `task.config.model`.
            work: existing: where it works, and where an earlier process may have left checkpoints.
        """
        self.task, self.work = task, work
        self.collection, self.mined, self.config, self.seed = task.collection, task.mined, task.config, task.seed
        self.texts = texts_of_lists(task.collection, task.mined)
        self._stopped: Callable[[], bool] = bool

    def run(self) -> dict[str, Any]:
        """Train; with folds, find out first for how long. Returns details for the manifest.

        Raises:
            UserError: there is nothing to train on, what is asked for cannot be done, or memory is not enough.
        """
        source, teacher = self.mined / "train", self.config.teacher or self.task.teacher
        learnt = taught(read_lists(source), self.texts, self.config, self.task.scores)
        # What such a teacher scores, those of the lists have no part in.
        teachers = read_index(source).teachers if teacher is None else (teacher,)
        data = describe_lists(learnt.lists, folder_digests(source), teachers)
        with heeding_signals() as self._stopped, within_memory(LESS_MEMORY):
            return {**learnt.counts, **self._train(learnt.lists, data)}

    def _train(self, lists: Sequence[TrainingList], data: Mapping[str, Any]) -> dict[str, Any]:
        selection, config = self._dev(lists), self.config
        if len(selection):
            say(selection.introduction())
        elif self.task.section:  # a warm-up has none by design
            say(NO_DEV)
        if config.folds:  # they have chosen, on more queries than dev has: only the last checkpoint counts
            config = config.model_copy(update={"evaluations": 1, "patience": None, "average": 1})
        loop = self._loop(lists, selection, config, self.work, data)
        for line in self._outlook(loop):
            say(f"  {line}")
        loop.watch.note("overlap", overlapping(selection.overlap, selection.offered))
        if on_teacher(config.loss):
            loop.watch.note("teacher", worse_teacher(*compare_teacher(lists)))
        stop_at = 1.0
        if self.config.folds:
            watched = loop.watch.state()
            del loop
            release_memory()  # it holds one model at a time
            stop_at = self._stop(lists)
            loop = self._loop(lists, selection, config, self.work, data)
            loop.watch.restore(watched)
        found = loop.run(stop_at)
        return {**found, **({"stop_at": stop_at} if self.config.folds else {})}

    def measure(self) -> dict[str, float]:
        """The value on dev of the reranker that is there."""
        config = self.config
        reranker = load_reranker(self.work / RERANKER, precision=config.precision, batch_tokens=config.scoring_tokens)
        return {DEV_VALUE: mean(self._dev([]).values(reranker))}

    def _loop(
        self,
        lists: Sequence[TrainingList],
        selection: Selection,
        config: TrainConfig,
        folder: Path,
        data: Mapping[str, Any] | None = None,
    ) -> Loop:
        tokens = self.task.tokens or self.work / TOKENS
        more: dict[str, Any] = {"tokens": tokens, "data": data, "stopped": self._stopped}
        return Loop(self.texts, lists, selection, config, seed=self.seed, folder=folder, **more)

    def _outlook(self, loop: Loop) -> Iterator[str]:
        """What to expect, in the words of the section that is trained."""
        section = self.task.section
        # A warm-up is proposed where there is none.
        documents = 0 if self.task.warmed or section != "train" else len(self.collection.documents)
        for line in outlook(loop, self.collection.queries, documents) if section else ():
            yield line.replace("train.", f"{section}.")

    def _dev(self, lists: Sequence[TrainingList]) -> Selection:
        config, met = self.config, met_in_lists(lists, self.texts.queries)
        if self.task.warmed_on is not None:  # for both starts alike, or memory would win
            met = with_warmup(met, self.task.warmed_on)
        return dev_selection(
            read_trec(self.mined / "dev.trec"),
            self.collection.qrels.get("dev", {}),
            self.texts,
            met,
            queries=config.dev_queries,
            depth=config.dev_depth,
            seed=self.seed,
            patience=config.patience,
        )

    def _stop(self, lists: Sequence[TrainingList]) -> float:
        """The share of the budget that the folds choose."""
        config = self.config
        return choose_stop(
            lists,
            self.texts,
            self._fold,
            folds=config.folds,
            evaluations=config.evaluations,
            queries=config.dev_queries,
            depth=config.dev_depth,
            seed=self.seed,
            folder=self.work,
            measured=self.collection.queries,
        ).progress

    def _fold(self, lists: Sequence[TrainingList], selection: Selection, folder: Path) -> Curve:
        """Train on some of the lists, and tell how the others were ranked meanwhile."""
        folder.mkdir(parents=True, exist_ok=True)
        # With patience no evaluation is left out for the time it takes. Its own selection has none: nothing ends early.
        changes = {"tracker": "none", "patience": self.config.evaluations, "average": 1}
        config = self.config.model_copy(update=changes)
        self._loop(lists, selection, config, folder).run()
        release_memory()  # the next fold holds a model of its own
        return [(line["progress"], line["values"]) for line in read_lines(folder / DEV)]


def take_as_it_is(config: TrainConfig, seed: int, folder: Path) -> dict[str, Any]:
    """Write the model untrained, as the reranker; its calibration, if it has one, goes with it.

    Raises:
        UserError: it is of another kind, or it has no head that was trained.
    """
    check_kind(config)
    refuse_new_head(config)
    set_seed(seed)
    if workers().lead:
        taken: dict[str, Any] = {"instruction": config.instruction, "max_length": config.max_length}
        load_reranker(config.model, kind=config.head, precision="fp32", **taken).save(folder / RERANKER)
    wait()
    return {"steps": 0}
