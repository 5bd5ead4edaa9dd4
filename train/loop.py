"""The training loop, readable from top to bottom."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from secondstage.compute import device, keep_memory
from secondstage.config import TrainConfig
from secondstage.errors import StoppedError, UserError
from secondstage.files import replacing, to_disk
from secondstage.lists import TrainingList
from secondstage.measures import mean
from secondstage.parallel import gather, wait, workers
from secondstage.progress import bar, say
from secondstage.site import TOKENS
from secondstage.texts import PairTexts

from .averaging import Leaders
from .best import choose_best
from .budget import Budget, make_budget, stopwatch
from .checkpoint import Checkpoints
from .checks import chance
from .evaluations import affordable
from .examples import Shape
from .facts import facts
from .gradients import Forward, accumulate, seed_everything
from .matching import MATCHING, start_matching
from .model import start_model
from .objective import Objective, targets_of
from .pace import Pace
from .schedule import rate
from .selection import DEV_VALUE, MEASURE, Selection
from .steps import Micro, Step, Steps, micro_batches
from .tokens import Tokens
from .tracking import StepRecord, Tracking
from .turns import turns
from .watch import Watch
from .weights import make_weights, refuse_other, spread_by


@dataclass
class Done:
    """How far a training is. With the seed it decides all that is random in what comes next.

    Attributes:
        evaluations: shares of the budget at which dev was reranked, or that a clock budget passed over.
        evaluated: before which step it was reranked last.
        progress: before the last step.
    """

    steps: int = 0
    lists: int = 0
    pairs: int = 0
    tokens: int = 0
    padding: int = 0
    epoch: int = 0
    steps_in_epoch: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    evaluated: int = -1
    progress: float = 0.0


class Loop:
    """Tunes a reranker on training lists; the best checkpoint on dev ends up in `folder/reranker`.

    Every process has one. What it does is a function of the lists, the configuration, the seed and `Done` alone: so a
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
        tokens: Path | None = None,
        data: Mapping[str, Any] | None = None,
        stopped: Callable[[], bool] = bool,
    ) -> None:
        """Load the model and make everything ready.

        Args:
            texts: of queries and documents.
            lists: those without anything to compare are left out.
            selection: the dev lists; without dev queries the last checkpoint is kept.
            config: model, budget and optimisation.
            seed: of the new head, of the order of the lists and of the negatives drawn.
            folder: existing; if an earlier process left checkpoints here, its training goes on.
            tokens: where token rows are kept; by default in `folder`.
            data: what the lists are, for the record.
            stopped: whether this process was asked to stop; by default it never is.
        """
        keep_memory()
        self.config, self.selection, self.folder, self.seed = config, selection, folder, seed
        self.team, self.stopped = workers(), stopped
        self.spread = spread_by(config)
        wait()  # the processes are joined before Accelerate looks for them
        self.accelerator = Accelerator(cpu=device() == "cpu", mixed_precision="no")
        # Under DeepSpeed's third stage transformers would spread every model that is loaded, also where one process is
        # alone with it.
        unset_hf_deepspeed_config()  # type: ignore[no-untyped-call]
        seed_everything(seed)
        start = start_model(config)
        self.matching = start_matching(config)
        if self.matching is not None:
            self.matching.show(start.model)
        self.weights = make_weights(start.model, config, self.accelerator, self.spread)
        self.scorer = start.with_model(self.weights.working)
        self.objective = Objective(config.loss)
        pairs = ((found.query_id, candidate.doc_id) for found in lists for candidate in found.candidates)
        self.tokens = Tokens(self.scorer, texts, pairs, tokens or folder / TOKENS)
        shape = Shape(config.positives, config.negatives, ignored=self.objective.needs_teacher)
        self.steps = Steps(lists, self.tokens.lengths, shape, batch_tokens=config.batch_tokens, seed=seed)
        if not self.steps.lists:
            raise UserError(
                f"none of {len(lists)} lists gives a step with train.positives={config.positives} and train.negatives="
                f"{config.negatives} two candidates to compare by {' or '.join(config.loss)}: mine more, or raise these"
            )
        self.objective.refuse_grades(self.steps.lists)
        self.facts = facts(config, data or {}, seed=seed, processes=self.team.size)
        self.tracking, self.watch = Tracking(config, folder), Watch(config, folder)
        self.checkpoints = Checkpoints(folder, config.keep_checkpoints)
        self.leaders, self.done = Leaders(config.average), Done()
        self._clock: Callable[[], float] = stopwatch()
        self.budget: Budget
        # What the last checkpoint needs of the rerankers that were kept.
        self._needed: set[str] = set()

    def run(self, stop_at: float = 1.0) -> dict[str, Any]:
        """Train until that share of the budget is used. Returns the totals, for the manifest.

        Raises:
            StoppedError: SIGTERM or Ctrl-C came, and a checkpoint was written if a step was made.
            UserError: loss or gradient is not finite.
        """
        self._go_on()
        try:
            return self._run(stop_at)
        finally:
            self.tracking.finish()

    def _run(self, stop_at: float) -> dict[str, Any]:
        self._clock = clock = stopwatch(self.done.seconds)
        budget = self.budget = make_budget(self.config, len(self.steps.lists), clock)
        progress = 0.0
        progress_bar = bar(total=100, label="train", unit="%") if self.team.lead else None
        pace = Pace(budget, self.config, clock, self.stopped)
        for step in self._steps():
            self.done.seconds = clock()
            now = pace.ask(self.done.steps, self.done.lists)
            progress = min(now.progress, stop_at)
            if now.stop:
                self._save()
                raise self._interrupted()
            if now.progress >= stop_at:
                break
            if self._due(now.progress):
                self._evaluate(progress)
            if self.selection.exhausted:
                break
            if now.save:
                self._save()
                pace.saved()
            loss = self._step(step, now.progress)
            if progress_bar is not None:
                progress_bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                progress_bar.update(round(100 * now.progress / stop_at) - progress_bar.n)
        if progress_bar is not None:
            progress_bar.close()
        self._save()  # after a stop from here on, only the last evaluation and the average are made again
        if not self.selection.exhausted:
            self._evaluate(progress, last=True)
        self._heed()
        found = self._finish(clock())
        self._heed()
        return found

    def _heed(self) -> None:
        """Raise `StoppedError` if one of the processes was asked to stop."""
        if any(gather(self.stopped())):
            raise self._interrupted()

    def _interrupted(self) -> StoppedError:
        return StoppedError(f"stopped after {self.done.steps} steps: run the same command again to go on")

    def _due(self, progress: float) -> bool:
        """Whether dev is to be reranked.

        Of a clock budget evaluations take a part. If those that are left would cost more than a tenth of the training,
        the next is left out: the later ones tell more. The shares that passed while dev was reranked are passed over,
        and those before the training has had as much time as that took. Only what is recorded decides, for replays.
        """
        done, count = self.done, self.config.evaluations
        if done.evaluated == done.steps:
            return False  # going on from the checkpoint after it
        if self.budget.by_clock and done.evaluated == done.steps - 1:
            took = progress - done.progress
            done.evaluations = max(done.evaluations, int((progress + took) * count))
        if progress < (done.evaluations + 1) / count:
            return False
        if self.budget.by_clock and self.config.patience is None:
            left = count - 1 - done.evaluations  # the last is made when the time is over
            if left > affordable(done.pairs / progress, self.selection.pairs):
                done.evaluations += 1
                say(f"  dev is not reranked at {progress:.0%}: it would take more than a tenth of the time")
                return False
        return True

    def _step(self, step: Step, progress: float) -> float:
        """One step of the optimizer, shared by all processes. Returns the loss."""
        start, done, config = time.monotonic(), self.done, self.config
        targets = targets_of(step.examples)
        counts = self.objective.counts(targets)
        micros = micro_batches(step, config.memory_tokens, processes=self.team.size)
        sums = self.gradient(step, micros, counts)
        middle = self.budget.middle(progress, done.steps, done.lists, len(step.examples))
        share_of_rate = rate(middle, config.warmup, config.schedule)
        # Over gloo, which sees a process that has failed, before sums over accelerators, which do not.
        everywhere = [sum(values) for values in zip(*gather(list(sums.values())), strict=True)]
        norm = self.weights.update(share_of_rate)
        # What matching adds is a mean over the step's pairs already.
        parts = {**counts, MATCHING: 1}
        terms = {name: total / max(parts[name], 1) for name, total in zip(sums, everywhere, strict=True)}
        weights = {name: term.weight for name, term in config.loss.items()}
        loss = float(sum(weights.get(name, 1.0) * value for name, value in terms.items()))
        record = StepRecord(
            step=done.steps,
            progress=progress,
            middle=middle,
            loss=loss,
            terms=terms,
            learning_rate=config.learning_rate * share_of_rate,
            gradient_norm=norm,
            lists=len(step.examples),
            counted=counts,
            pairs=sum(map(len, step.lengths)),
            tokens=sum(micro.tokens for micro in micros),
            padding=sum(micro.tokens - sum(micro.lengths) for micro in micros),
            seconds=time.monotonic() - start,
            by_clock=self.budget.by_clock,
        )
        # Of matching, the loss of a constant score has no part.
        alone, constant = loss - terms.get(MATCHING, 0.0), self.objective.constant(targets, counts)
        self.watch.step(progress, alone, self.weights.usable(norm), constant=constant)
        self.tracking.step(record)
        done.steps += 1
        done.lists += record.lists
        done.pairs += record.pairs
        done.tokens += record.tokens
        done.padding += record.padding
        done.progress = progress
        return loss

    def gradient(self, step: Step, micros: Sequence[Micro], counts: dict[str, int]) -> dict[str, float]:
        """Add up the gradient of this process's share of a step. Returns each loss, summed over the lists of it."""
        names: list[str] = [*self.config.loss, *([MATCHING] if self.matching else [])]
        sums: dict[str, float] = dict.fromkeys(names, 0.0)
        self.scorer.model.train()
        for turn in turns(micros, self.team, self.config.memory_tokens, lockstep=self.weights.lockstep):
            outcome = accumulate(
                turn.micro,
                self._forward(turn.micro, sum(map(len, step.lengths))),
                self.objective,
                counts,
                self.weights,
                seeds=(self.seed, self.done.steps, turn.number),
                cached=turn.cached,
                passes=turn.passes,
                idle=turn.idle,
            )
            if turn.idle:
                continue
            found = outcome.sums | ({MATCHING: outcome.further} if self.matching else {})
            sums = {name: sums[name] + value for name, value in found.items()}
            self.watch.scores(turn.micro.examples, outcome.scores, outcome.mask)
        return sums

    def _forward(self, micro: Micro, pairs: int) -> Forward:
        """What scores the chunks of a micro-batch, of a step with so many pairs."""
        rows, matching = self.tokens.rows(micro.pairs), self.matching

        def forward(places: Sequence[int]) -> tuple[Tensor, Tensor | None]:
            features = self.scorer.collate(rows, places)
            if matching is None:
                return self.scorer.logits(features), None
            outputs = self.scorer.model(**features, **matching.wanted)
            return outputs.logits[:, 0].float(), matching.loss(outputs, features) / pairs

        return forward

    def _steps(self) -> Iterator[Step]:
        """The steps that are not done yet, without end."""
        while True:
            for number, step in enumerate(self.steps.epoch(self.done.epoch)):
                if number >= self.done.steps_in_epoch:
                    yield step
                    self.done.steps_in_epoch = number + 1
            self.done.epoch, self.done.steps_in_epoch = self.done.epoch + 1, 0

    def _evaluate(self, progress: float, *, last: bool = False) -> None:
        """Rerank dev with the weights as they are, and keep them if they are among the best so far."""
        self.done.evaluations += 1
        self.done.evaluated = self.done.steps
        step, start = self.done.steps, time.monotonic()
        with self.weights.kept() as network:
            if not len(self.selection):
                if last:
                    self._keep(network, 0.0)
                return
            self.scorer.model.eval()
            values = self.selection.values(self.scorer, shared=self.weights.whole)
            best = self.selection.take(values, last=last)
            self._keep(network, mean(values), first=best)
        first_stage = mean(self.selection.first_stage())
        say(f"  step {step}: dev {MEASURE} {mean(values):.4f} (first stage {first_stage:.4f})")
        wait()  # for the lead, which writes: gloo is patient, sums over accelerators give up after ten minutes
        more = {"progress": progress, "values": values}
        self.tracking.evaluation(step, mean(values), first_stage, kept=best, seconds=time.monotonic() - start, **more)

    def _keep(self, network: Any, value: float, *, first: bool = True) -> None:
        """Write a reranker, if it is among the best; those that no longer are go, unless a checkpoint needs them."""
        name = f"best-{self.done.steps:08}"
        dropped = self.leaders.enter(name, value, first=first)
        if self.team.lead and name not in dropped:
            with replacing(self.folder / name) as folder:
                self.scorer.with_model(network).save(folder)
                to_disk(folder)
        self._clear(self._needed)

    def _clear(self, needed: set[str]) -> None:
        """Delete the rerankers that are neither among the best nor needed."""
        for path in self.folder.glob("best-*") if self.team.lead else ():
            if path.name not in needed | dict(self.leaders.entries).keys():
                shutil.rmtree(path, ignore_errors=True)

    def _save(self) -> None:
        """Write a checkpoint, once there is a step to keep."""
        if not self.done.steps:
            return
        self.done.seconds = self._clock()
        record = {
            "done": asdict(self.done),
            "selection": self.selection.state(),
            "leaders": self.leaders.entries,
            "tracking": self.tracking.state(),
            "watch": self.watch.state(),
            "spread": self.spread,
        }
        self.weights.save(self.checkpoints, self.done.steps, record)
        self._needed = set(dict(self.leaders.entries))
        self._clear(self._needed)
        wait()  # as after an evaluation

    def _go_on(self) -> None:
        """Take up the last checkpoint, if there is one."""
        step = gather(self.checkpoints.latest() if self.team.lead else None)[0]
        record = None
        if step is not None:
            record = self.checkpoints.record(step)
            refuse_other(self.checkpoints.place(step), record["spread"], self.spread)
            self.weights.load(self.checkpoints, step)
            self.done = Done(**record["done"])
            self.selection.restore(record["selection"])
            self.leaders = Leaders(self.config.average, record["leaders"])
            self.watch.restore(record["watch"])
            say(f"  going on after {step} steps")
        if self.steps.left_out:
            say(f"  {self.steps.left_out} lists have nothing to compare and are left out")
        self._needed = set(dict(self.leaders.entries))
        self._clear(self._needed)
        self.tracking.start(self.facts, record and record["tracking"])

    def _finish(self, seconds: float) -> dict[str, Any]:
        """Put the best reranker in its place. Returns the totals."""
        averaged = choose_best(self.folder, self.leaders, self.selection, self.config)
        totals = {**asdict(self.done), "training_seconds": round(seconds, 2), "left_out": self.steps.left_out}
        inner = ("epoch", "steps_in_epoch", "seconds", "evaluated", "progress")
        found: dict[str, Any] = {name: totals[name] for name in totals if name not in inner}
        if not len(self.selection):
            return {**found, DEV_VALUE: None, "findings": list(self.watch.findings.values())}
        first_stage, dev = mean(self.selection.first_stage()), self.selection
        self.watch.end(dev.best or 0.0, first_stage, len(dev), chance(dev.run, dev.qrels, self.seed))
        found |= {
            DEV_VALUE: dev.best,
            f"first_stage_{MEASURE}": first_stage,
            "dev_queries": len(dev),
            "dev_depth": self.config.dev_depth,
            "best_step": int(self.leaders.entries[0][0].removeprefix("best-")),
            "averaged": averaged,
        }
        return {**found, "findings": list(self.watch.findings.values())}
