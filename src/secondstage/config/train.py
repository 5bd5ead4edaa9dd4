"""How the cross-encoder is tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from .base import Count, Positive, Section, Share
from .loss import LossTerm, check_losses, on_teacher

BUDGETS = ("minutes", "steps", "epochs", "replay")


def budget_fault(train: Mapping[str, object], budgets: Sequence[str] = BUDGETS) -> str:
    """What is wrong with the budget of a training; empty if nothing is."""
    given = [name for name in budgets if train.get(name) is not None]
    if len(given) == 1:
        return ""
    return f"give exactly one of {', '.join(budgets)}, not {' and '.join(given) or 'none'}"


class LoraConfig(Section):
    """Low-rank adapters instead of all weights (Hu et al. 2021); merged into the weights when the model is written."""

    rank: Count = 16
    alpha: Positive = 32.0
    dropout: Share = 0.0
    targets: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Names of the layers that get one; none for all linear layers but the head."""


class StudentConfig(Section):
    """A student that is cut from `train.model`: it keeps some of its layers, and the embeddings and the head."""

    layers: Count
    keep: Literal["every", "first", "last"] = "every"
    """Every n-th layer, the last one among them; or the first; or the last."""
    match_hidden: Annotated[float, Field(ge=0)] = 0.0
    """The weight of the mean squared difference to the hidden states of the layers that it stands for."""
    match_attention: Annotated[float, Field(ge=0)] = 0.0
    """The weight of the KL divergence from the attention of the layers that it stands for."""


class TrainConfig(Section):
    """How the cross-encoder is tuned. Exactly one of minutes, steps, epochs and replay is the budget."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A hub id, a folder, or `package:<distribution>`: any encoder (it gets a new head), or a trained reranker."""
    head: Literal["classification", "yes_no"] = "classification"
    """yes_no: a decoder that is asked whether the document answers the query; its logits of yes and no score it."""
    instruction: str | None = None
    """What the prompt of a yes_no decoder says is searched for; none for the usual sentence."""
    lora: LoraConfig | None = None
    student: StudentConfig | None = None
    freeze_embeddings: bool = False
    freeze_layers: Annotated[int, Field(ge=0)] = 0
    """The lowest layers that are not tuned."""

    minutes: Positive | None = None
    steps: Annotated[int, Field(ge=0)] | None = None
    """0 takes the model as it is, a reranker that was trained elsewhere: no train split is needed."""
    epochs: Positive | None = None
    replay: str | None = None
    """The `train` folder of an earlier run: its steps are repeated exactly, whatever its budget was."""

    positives: Count = 1
    """Positives of a list in a training step, at most."""
    negatives: Count = 7
    """Negatives of a list in a training step, at most."""
    max_length: Annotated[int, Field(ge=16)] = 256
    """Tokens of a query-document pair."""
    batch_tokens: Annotated[int, Field(ge=64)] = 8192
    """Tokens of one optimizer step over all processes, without padding."""
    memory_tokens: Annotated[int, Field(ge=64)] | None = None
    """Tokens that one process keeps activations of, padding included: more goes in parts, with the same gradient."""

    loss: Annotated[Mapping[str, LossTerm], AfterValidator(check_losses)] = {"lce": LossTerm()}
    """The losses by name, with their weights and settings; `loss: lce` is short for one with its defaults."""
    teacher: str | None = None
    """Whose scores losses on a teacher's compare with: a hub id, a folder or `package:…`; none for those of
    `mine.teachers`, which are in the lists."""

    learning_rate: Positive = 1e-4
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of the learning rate that each layer has of the one above it."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Share = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    dropout: Share = 0.0
    """Off by default: on a CPU it costs a quarter of the speed, and a short training does not overfit. What is dropped
    depends on how a step is cut: on the number of processes, and on memory_tokens."""
    clip: Positive = 1.0
    """The gradient's largest norm."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the processor has it."""
    gradient_checkpointing: bool = False
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The decay of the moving average of the weights, which is then what is evaluated and kept; 0 for none."""

    evaluations: Count = 3
    """How often dev is reranked, evenly spread over the budget; the best checkpoint is kept: the last, unless another
    is better by more than the standard error of the difference. Of minutes all but the last take about a tenth at most,
    or the first ones are left out, unless patience is set; and training has as long after each, at least, as it took.
    """
    patience: Count | None = None
    """Training ends after so many evaluations in a row without a new best."""
    average: Count = 1
    """The best checkpoints whose weights are averaged at the end, where the average is better on dev."""
    folds: Annotated[int, Field(ge=0)] = 0
    """With few labels: the step at which training ends is chosen by so many folds of the training queries."""
    dev_queries: Count = 100
    dev_depth: Count = 30

    checkpoint_minutes: Positive = 5.0
    checkpoint_steps: Count | None = None
    """Instead of minutes: every so many steps."""
    keep_checkpoints: Count = 1
    """The last so many are kept, to go on from."""
    tracker: Literal["none", "wandb", "tensorboard"] = "none"

    @model_validator(mode="before")
    @classmethod
    def _short_loss(cls, values: Any) -> Any:
        """`loss: lce` and `loss: {lce: 1, kl: 0.5}`."""
        if not isinstance(values, Mapping) or "loss" not in values:
            return values
        loss = values["loss"]
        terms = {loss: {}} if isinstance(loss, str) else loss
        if isinstance(terms, Mapping):
            terms = {
                name: {"weight": float(term)} if isinstance(term, int | float) else term for name, term in terms.items()
            }
        return {**values, "loss": terms}

    @model_validator(mode="after")
    def _one_budget(self) -> TrainConfig:
        if fault := budget_fault(self.model_dump()):
            raise ValueError(fault)
        return self

    @field_validator("folds")
    @classmethod
    def _two_folds(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("1 leaves nothing to train on: give 0 for none, or 2 and more")
        return folds

    @model_validator(mode="after")
    def _untouched(self) -> TrainConfig:
        if self.steps == 0 and (self.student is not None or self.lora is not None):
            raise ValueError("steps=0 takes the model as it is: leave student and lora out, or give a budget")
        return self

    @model_validator(mode="after")
    def _matched(self) -> TrainConfig:
        student = self.student
        if student is not None and (student.match_hidden or student.match_attention) and self.head != "classification":
            raise ValueError(
                "student.match_hidden and match_attention compare networks with a classification head: set both to 0, "
                "or head=classification"
            )
        if student is not None and student.match_attention and self.dropout:
            raise ValueError(
                "student.match_attention compares what each token attends to, of which dropout takes parts away: set "
                "dropout to 0, or match_attention"
            )
        return self

    @model_validator(mode="after")
    def _teacher_is_asked(self) -> TrainConfig:
        if self.teacher is not None and not on_teacher(self.loss):
            raise ValueError(
                f"teacher is given, but no loss of {', '.join(self.loss)} compares with its scores: add one, e.g. "
                "loss: {lce: 1, kl: 1}, or leave it out"
            )
        return self

    @property
    def scoring_tokens(self) -> int:
        """Tokens that a process scores of dev at once, padding included: no more than it keeps activations of."""
        return min(self.batch_tokens, self.memory_tokens or self.batch_tokens)
