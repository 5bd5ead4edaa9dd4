"""Warm-up: what the reranker learns of the collection before any label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .base import Count, Positive, Section
from .mine import MineConfig, SynthesizeConfig
from .train import TrainConfig, budget_fault

WARMUP_BUDGETS = ("minutes", "steps", "epochs")
# What a warm-up takes from the section train: what the model is, and what the machine needs. All else is its own, so
# that another recipe for the labels warms up nothing again.
INHERITED = (
    "model",
    "head",
    "instruction",
    "lora",
    "freeze_embeddings",
    "freeze_layers",
    "max_length",
    "memory_tokens",
    "precision",
    "gradient_checkpointing",
)
# What its keys are called where mining and training speak of them, the longest first.
KEYS = {
    "mine.synthesize.documents": "warmup.max_documents",
    "mine.synthesize.min_words": "warmup.min_words",
    "mine.synthesize.round_trip": "warmup.round_trip",
    "mine.synthesize": "warmup",
    "mine.depth": "warmup.depth",
    "train.batch_tokens": "warmup.batch_tokens",
    "train.learning_rate": "warmup.learning_rate",
    "train.negatives": "warmup.negatives",
}


def warmup_budget_fault(warmup: Mapping[str, object]) -> str:
    """What is wrong with the budget of a warm-up; empty if nothing is."""
    return budget_fault(warmup, WARMUP_BUDGETS)


class WarmupConfig(Section):
    """A first training, on queries that stand in the documents. Exactly one of minutes, steps and epochs is its budget.

    The text of a query is cut out of its document, and the negatives come from the first stage. No query of the
    collection and no label has a part in it.
    """

    use: Literal["auto", "always", "never"] = "auto"
    """auto: train from `train.model` and from the warmed-up model, and keep what is better on dev: the budget of train
    is spent twice. Without dev, and for always: from the warmed-up model alone. never: it is made for others."""
    queries: Literal["title", "first_sentence"] = "title"
    """title: a document's title, or its first sentence where it has none of its own. first_sentence: always that."""
    max_documents: Count | None = 10_000
    """Documents that queries are taken from, drawn by the seed; none means all."""
    min_words: Count = 10
    """Documents with fewer words besides their query are passed over; in scripts without spaces, characters count."""
    round_trip: Count = 10
    """Kept is a query only if the first stage finds its document among so many."""
    depth: Count = 50
    """Candidates of a query, from which its negatives are drawn."""
    negatives: Count = 7

    minutes: Positive | None = None
    steps: Count | None = None
    epochs: Positive | None = None

    batch_tokens: Annotated[int, Field(ge=64)] = 4096
    """Tokens of one optimizer step, without padding."""
    learning_rate: Positive = 1e-4

    @model_validator(mode="after")
    def _one_budget(self) -> WarmupConfig:
        if fault := warmup_budget_fault(self.model_dump()):
            raise ValueError(fault)
        return self

    @property
    def mining(self) -> MineConfig:
        """How its lists are made: as any others, but of no query of the collection."""
        synthesize = SynthesizeConfig(
            generator=self.queries,
            documents=self.max_documents,
            min_words=self.min_words,
            round_trip=self.round_trip,
        )
        return MineConfig(depth=self.depth, negatives=self.negatives, synthesize=synthesize)

    def training(self, train: TrainConfig) -> TrainConfig:
        """How the model is trained on them; `train` says what the model is and what the machine needs."""
        own = ("negatives", "batch_tokens", "learning_rate", *WARMUP_BUDGETS)
        settings: dict[str, Any] = {key: getattr(train, key) for key in INHERITED}
        # No dev query has a part in it: the last weights are kept.
        return TrainConfig(**settings, **{key: getattr(self, key) for key in own}, evaluations=1)


def in_warmup_words(text: str) -> str:
    """What mining or training says, with the keys of the section warmup."""
    for key, own in KEYS.items():
        text = text.replace(key, own)
    return text
