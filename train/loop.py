"""The training loop, readable from top to bottom."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from secondstage.compute import device, keep_memory
from secondstage.config import TrainConfig
from secondstage.errors import Stopped
from secondstage.lists import TrainingList
from secondstage.parallel import wait, workers
from secondstage.progress import bar, say
from secondstage.synthetic import PairTexts

from .averaging import average_best
from .budget import make_budget, stopwatch
from .checkpoint import Checkpoints
from .gradients import accumulate, seed_everything
from .model import start_model
from .objective import Objective, targets_of
from .pace import Pace, heeding_sigterm
from .schedule import rate
from .selection import MEASURE, Selection
from .steps import Micro, Step, Steps, micro_batches, share
from .tokens import Tokens
from .tracking import Tracking
from .watch import Watch
from .weights import Weights


@dataclass
class Done:
    """How far a training is. With the seed it decides all that is random in what comes next."""

    steps: int = 0
    lists: int = 0
    pairs: int = 0
    tokens: int = 0
    padding: int = 0
    epoch: int = 0
    steps_in_epoch: int = 0
    evaluations: int = 0
    seconds: float = 0.0


class Loop:
    """Tunes a reranker on training lists; the best checkpoint on dev ends up in `folder/reranker`.

    Every process has one. What it does is a function of the lists, the configuration, the seed and `Done` alone, so a
    training that goes on from a checkpoint gives the same bits as one that was never stopped.
    """

    def __init__(
        self,
        texts: PairTexts,
        lists: Sequence[TrainingList],
        selection: Selection,
        config: TrainConfig,
        *,
        seed: int,
        folder: Path,
    ) -> None:
        """Load the model and make everything ready.

        Args:
            texts: of queries and documents.
            lists: each with something to compare.
            selection: the dev lists; without dev queries the last checkpoint is kept.
            config: model, budget and optimisation.
            seed: of the new head, of the order of the lists and of the negatives drawn.
            folder: existing; checkpoints of an earlier process are gone on from.
        """
        keep_memory()
        self.config, self.selection, self.folder, self.seed = config, selection, folder, seed
        self.team = workers()
        wait()  # joined before Accelerate looks
        self.accelerator = Accelerator(cpu=device() == "cpu", mixed_precision="no")
        seed_everything(seed)
        start = start_model(config)
        self.weights = Weights(start.model.to(self.accelerator.device), config, self.accelerator)
        self.scorer = start.with_model(self.weights.working)
        self.objective = Objective(config.loss)
        self.tokens = Tokens(self.scorer, texts, lists, folder / "tokens")
        self.steps = Steps(lists, self.tokens, config, seed=seed, ignored=self.objective.needs_teacher)
        self.tracking = Tracking(config, folder)
        self.watch = Watch()
        self.checkpoints = Checkpoints(folder, config.keep_checkpoints)
        self.done = Done()

    def run(self) -> dict[str, Any]:
        """Train until the budget is used. Returns the totals, for the manifest.

        Raises:
            Stopped: SIGTERM came; a checkpoint was written.
        """
        self._go_on()
        clock = stopwatch(self.done.seconds)
        budget = make_budget(self.config, len(self.steps.lists), clock)
        progress_bar = bar(total=100, label="train", unit="%")
        with heeding_sigterm() as stopped:
            pace = Pace(budget, self.config, clock, stopped)
            for step in self._steps():
                self.done.seconds = clock()
                now = pace.ask(self.done.steps, self.done.lists)
                if now.progress >= 1:
                    break
                if now.progress >= (self.done.evaluations + 1) / self.config.evaluations:
                    self._evaluate()
                    if self.selection.exhausted:
                        break
                if now.save or now.stop:
                    self._save()
                if now.stop:
                    raise Stopped(f"stopped after {self.done.steps} steps: run the same command again to go on")
                loss = self._step(step, now.progress)
                progress_bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                progress_bar.update(round(100 * now.progress) - progress_bar.n)
        progress_bar.close()
        if not self.selection.exhausted:
            self._evaluate()
        return self._finish()

    def _step(self, step: Step, progress: float) -> float:
        """One step of the optimizer, shared by all processes."""
        done, config = self.done, self.config
        counts = self.objective.counts(targets_of(step.examples))
        micros = micro_batches(step, self._most_tokens())
        self.scorer.model.train()
        for number, micro in share(list(enumerate(micros)), self.team.size)[self.team.rank]:
            cached = config.memory_tokens is not None and micro.tokens > config.memory_tokens
            outcome = accumulate(
                micro,
                self._forward,
                self.objective,
                counts,
                self.weights,
                seeds=(self.seed, done.steps, number),
                cached=cached,
            )
        share_of_rate = rate(progress, config.warmup, config.schedule)
        norm = self.weights.update(share_of_rate)
        return 0.0

    def _forward(self, micro: Micro, places: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        features = self.scorer.collate(micro.rows, places)
        return self.scorer.logits(features), None

    def _most_tokens(self) -> int:
        """Of a micro-batch: what memory holds, and little enough that every process has a part."""
        limits = [-(-self.config.batch_tokens // self.team.size), self.config.memory_tokens]
        return min(limit for limit in limits if limit is not None)

    def _steps(self) -> Iterator[Step]:
        """The steps that are not done yet, without end."""
        while True:
            for number, step in enumerate(self.steps.epoch(self.done.epoch)):
                if number >= self.done.steps_in_epoch:
                    self.done.steps_in_epoch = number
                    yield step
                    self.done.steps_in_epoch = number + 1
            self.done.epoch, self.done.steps_in_epoch = self.done.epoch + 1, 0
