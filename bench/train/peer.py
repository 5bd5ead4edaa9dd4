"""The peer, well tuned: sentence-transformers' `CrossEncoderTrainer`, for so many seconds, in a process of its own.

    python -m bench.train.peer SPEC.json

LambdaLoss, bf16 (autocast) where the processor has it, fused AdamW, learning rate 1e-4, no dropout. It has no budget
in time: a callback stops it, and its learning rate follows the clock, rising for a tenth of the time, then falling to
zero, as ours does. It has no grouping by length for cross-encoders: their batches are texts, which the loss tokenises.
The clock runs from the first step, without imports and the reading of the model. The last line is JSON: what it did.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

WARMUP = 0.1
LEARNING_RATE = 1e-4


class Spec(NamedTuple):
    """What to train.

    Attributes:
        lists: a file with a line of JSON for each list, in the order of training: query, docs, labels.
        model: where it starts.
        max_length: tokens of a pair.
        seconds: how long.
        seed: of the head and of the order.
        settings: `lists` of a step, `mini_batch` (pairs at once: null is the loss' own default, -1 a whole step),
            `attention`, and `workers` of the data loader.
        warmup_steps: left out of what is measured.
        save: where the model is written; none for not at all.
    """

    lists: str
    model: str
    max_length: int
    seconds: float
    seed: int
    settings: dict[str, Any]
    warmup_steps: int = 0
    save: str | None = None


class Speed(NamedTuple):
    """What was done after the steps that warm up, and all steps.

    Attributes:
        pairs_per_s: pairs a second.
        tokens_per_s: tokens a second, without padding.
        padding_waste: the share of padding among all tokens that were computed.
        steps: all of them.
        pairs: all of them.
        seconds: of all steps.
    """

    pairs_per_s: float
    tokens_per_s: float
    padding_waste: float
    steps: int
    pairs: int
    seconds: float


class Marks:
    """What was done by the end of each step, the first being the start."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, int, int, int]] = []
        self.pairs = self.tokens = self.padding = 0

    def mark(self) -> None:
        """Note the time."""
        self.marks.append((time.perf_counter(), self.pairs, self.tokens, self.padding))

    def speed(self, warmup_steps: int) -> Speed:
        """From the end of the steps that warm up to the end; tokens count padding, too."""
        start, end = self.marks[min(warmup_steps, len(self.marks) - 2)], self.marks[-1]
        seconds, pairs, tokens, padding = (b - a for a, b in zip(start, end, strict=True))
        whole = end[0] - self.marks[0][0]
        steps = len(self.marks) - 1
        return Speed(pairs / seconds, (tokens - padding) / seconds, padding / tokens, steps, int(end[1]), whole)


def train_peer(spec: Spec) -> Speed:
    """What a user of sentence-transformers writes who knows it well."""
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import LambdaLoss
    from transformers import TrainerCallback, set_seed

    from secondstage.compute import has_bf16
    from secondstage.models import locate
    from secondstage.train.schedule import rate

    set_seed(spec.seed)
    settings, marks = spec.settings, Marks()
    dropouts = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
    model = CrossEncoder(
        locate(spec.model),
        num_labels=1,
        max_length=spec.max_length,
        device="cuda" if torch.cuda.is_available() else "cpu",
        activation_fn=torch.nn.Identity(),
        config_kwargs=dict.fromkeys(dropouts, 0.0),
        model_kwargs={"attn_implementation": settings["attention"]},
    )

    def count(_: Any, inputs: tuple[Any, ...]) -> None:
        mask = inputs[0]["attention_mask"]
        marks.pairs += len(mask)
        marks.tokens += mask.numel()
        marks.padding += mask.numel() - int(mask.sum())

    def progress() -> float:
        return (time.perf_counter() - marks.marks[0][0]) / spec.seconds if marks.marks else 0.0

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            marks.mark()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            marks.mark()
            control.should_training_stop = progress() >= 1

    class Trainer(CrossEncoderTrainer):
        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            def share(_: int) -> float:
                return rate(min(progress(), 1.0), WARMUP, "linear")

            scheduled: Any = optimizer or self.optimizer
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(scheduled, share)
            return self.lr_scheduler

    model.register_forward_pre_hook(count)
    with Path(spec.lists).open(encoding="utf-8") as file, tempfile.TemporaryDirectory() as folder:
        arguments = CrossEncoderTrainingArguments(
            output_dir=folder,
            num_train_epochs=1000,  # the clock ends it
            per_device_train_batch_size=settings["lists"],
            learning_rate=LEARNING_RATE,
            optim="adamw_torch_fused",
            weight_decay=0.01,
            bf16=has_bf16(),
            use_cpu=not torch.cuda.is_available(),
            seed=spec.seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            dataloader_num_workers=settings["workers"],
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list([json.loads(line) for line in file]),
            loss=LambdaLoss(model, mini_batch_size=settings["mini_batch"]),
            callbacks=[Clock()],
        )
        trainer.train()
    if spec.save:
        model.save_pretrained(spec.save)
    return marks.speed(spec.warmup_steps)


if __name__ == "__main__":
    print(json.dumps(train_peer(Spec(**json.loads(Path(sys.argv[1]).read_text())))._asdict()))
