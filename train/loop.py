"""The training loop, with Accelerate, readable from top to bottom."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor

from secondstage.compute import device, keep_memory
from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.lists import TrainingList
from secondstage.pairmodel import PairModel
from secondstage.progress import bar, say
from secondstage.synthetic import PairTexts

from .batches import Batch, epoch
from .budget import make_budget, rate
from .losses.listwise import lce
from .model import MixedPrecision, start_model
from .selection import MEASURE, Selection


class Loop:
    """Tunes a cross-encoder on training lists; the best checkpoint on dev ends up in `folder/reranker`.

    `steps.jsonl` holds one line a step, `dev.jsonl` one an evaluation.
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
            lists: each with a positive and a negative.
            selection: the dev lists; without dev queries the last checkpoint is kept.
            config: model, budget and optimisation.
            seed: of the new head, of the order of the lists and of the negatives drawn.
            folder: existing.
        """
        set_seed(seed)
        keep_memory()
        self.config, self.selection, self.folder, self.seed = config, selection, folder, seed
        self.texts, self.lists = texts, lists
        self.accelerator = _accelerator(config)
        self.start = start_model(config)
        self.tokenizer, self.max_length = self.start.tokenizer, self.start.max_length
        if self.max_length < config.max_length:
            say(
                f"  train.max_length is {config.max_length}, but the model reads {self.max_length} tokens: that is used"
            )
        # The master weights must lie on the device before the optimizer sees them.
        self.weights = MixedPrecision(self.start.model.to(self.accelerator.device), config.precision)
        self.model = self.accelerator.prepare(self.weights.working)
        self.optimizer = _optimizer(self.weights.master, config)
        self.budget = make_budget(config, len(lists))
        self.totals = {"steps": 0, "lists": 0, "tokens": 0, "padding": 0}
        self.evaluations = 0

    def run(self) -> dict[str, Any]:
        """Train until the budget is used. Returns the totals, for the manifest."""
        batches = self._batches()
        progress_bar = bar(total=100, label="train", unit="%")
        with (self.folder / "steps.jsonl").open("w", encoding="utf-8") as log:
            while (progress := self.budget.progress(self.totals["steps"], self.totals["lists"])) < 1:
                if progress >= (self.evaluations + 1) / self.config.evaluations:
                    self._evaluate()
                line = {"step": self.totals["steps"], "progress": progress, **self._step(next(batches), progress)}
                log.write(json.dumps(line) + "\n")
                self.accelerator.log(line, step=line["step"])
                progress_bar.set_postfix(loss=f"{line['loss']:.3f}", refresh=False)
                progress_bar.update(round(100 * progress) - progress_bar.n)
        progress_bar.close()
        self._evaluate()
        self.accelerator.end_training()
        return {**self.totals, f"dev_{MEASURE}": self.selection.best if len(self.selection.run) else None}

    def _step(self, batch: Batch, progress: float) -> dict[str, Any]:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * rate(progress, config.warmup)
        scorer = self.start.with_model(self.model)
        features = scorer.collate(batch.window, batch.rows)
        self.model.train()
        scores, mask = as_lists(scorer.logits(features), [len(e.doc_ids) for e in batch.examples])
        loss = lce(scores, mask=mask)
        self.accelerator.backward(loss)
        self.weights.pull_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.weights.master.parameters(), config.clip)
        if not torch.isfinite(norm):
            raise UserError(
                f"the gradient is not finite at step {self.totals['steps']}: lower train.learning_rate "
                f"({config.learning_rate}), or set train.precision=fp32"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.weights.push_weights()
        self.totals["steps"] += 1
        self.totals["lists"] += len(batch.examples)
        self.totals["tokens"] += features["attention_mask"].numel()
        self.totals["padding"] += int((features["attention_mask"] == 0).sum())
        return {"loss": loss.item(), "lists": len(batch.examples), "gradient_norm": norm.item()}

    def _batches(self) -> Iterator[Batch]:
        scorer = self._scorer()

        def tokenize(pairs: Sequence[tuple[str, str]]) -> Any:
            return scorer.tokenize(self.texts(pairs))

        for number in itertools.count():
            yield from epoch(
                self.lists,
                negatives=self.config.negatives,
                batch_tokens=self.config.batch_tokens,
                tokenize=tokenize,
                seed=self.seed,
                number=number,
            )

    def _evaluate(self) -> None:
        """Rerank dev with the weights as they are, and keep them if they are the best so far."""
        self.evaluations += 1
        step = self.totals["steps"]
        keep = True
        if len(self.selection.run):
            self.model.eval()
            value = self.selection.value(self._scorer())
            keep = self.selection.is_best(value)
            say(f"  step {step}: dev {MEASURE} {value:.4f} (first stage {self.selection.first_stage():.4f})")
            with (self.folder / "dev.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps({"step": step, MEASURE: value, "kept": keep}) + "\n")
            self.accelerator.log({f"dev {MEASURE}": value}, step=step)
        if keep:
            self.start.with_model(self.weights.master).save(self.folder / "reranker")

    def _scorer(self) -> PairModel:
        return self.start.with_model(self.weights.working)


def as_lists(scores: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Fold `[pairs]` scores into `[lists, longest list]`, with a mask that is true where there is a candidate."""
    rows = torch.split(scores, list(lengths))
    folded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    places = torch.arange(folded.shape[1], device=scores.device)
    return folded, places < torch.tensor(lengths, device=scores.device)[:, None]


def _accelerator(config: TrainConfig) -> Accelerator:
    tracker = None if config.tracker == "none" else config.tracker
    # Precision is MixedPrecision's: Accelerate's autocast is slower on CPUs.
    accelerator = Accelerator(cpu=device() == "cpu", mixed_precision="no", log_with=tracker)
    if accelerator.num_processes > 1:
        raise UserError("training on several processes is not there yet: start secondstage as one process")
    try:
        accelerator.init_trackers("secondstage", config.model_dump(mode="json"))
    except Exception as error:  # wandb has kinds of its own
        raise UserError(
            f"train.tracker={config.tracker} cannot start: {error}; run `wandb login`, or set WANDB_MODE=offline"
        ) from error
    return accelerator


def _optimizer(network: Any, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW without weight decay on biases and normalisation, which are the one-dimensional parameters."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
