"""How the cross-encoder is tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Count, Positive, Section, Share

BUDGETS = ("minutes", "steps", "epochs", "replay")


def budget_fault(train: Mapping[str, object]) -> str:
    """What is wrong with the budget of a training; empty if nothing is."""
    given = [name for name in BUDGETS if train.get(name) is not None]
    if len(given) == 1:
        return ""
    return f"give exactly one of {', '.join(BUDGETS)}, not {' and '.join(given) or 'none'}"


class TrainConfig(Section):
    """How the cross-encoder is tuned. Exactly one of minutes, steps, epochs and replay is the budget."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A hub id, a folder, or `package:<distribution>`: any model with a sequence-classification head."""
    minutes: Positive | None = None
    steps: Annotated[int, Field(ge=0)] | None = None
    """0 takes the model as it is, a reranker that was trained elsewhere: no train split is needed."""
    epochs: Positive | None = None
    replay: str | None = None
    """The `train` folder of an earlier run: its steps are repeated exactly, whatever its budget was."""
    negatives: Count = 7
    """Negatives per positive in a training step."""
    max_length: Annotated[int, Field(ge=16)] = 256
    """Tokens of a query-document pair."""
    batch_tokens: Annotated[int, Field(ge=64)] = 8192
    """Tokens of one step, padding included."""
    learning_rate: Positive = 1e-4
    warmup: Share = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    dropout: Share = 0.0
    """Off by default: on a CPU it costs a quarter of the speed, and a short training does not overfit."""
    clip: Positive = 1.0
    """The gradient's largest norm."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the processor has it."""
    evaluations: Count = 3
    """How often dev is reranked, evenly spread over the budget; the best checkpoint is kept."""
    dev_queries: Count = 100
    dev_depth: Count = 30
    tracker: Literal["none", "wandb"] = "none"

    @model_validator(mode="after")
    def _one_budget(self) -> TrainConfig:
        if fault := budget_fault(self.model_dump()):
            raise ValueError(fault)
        return self
