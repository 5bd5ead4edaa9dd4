"""What to expect of a training, and a recipe for it, from facts that are known before its first step.

It proposes; the config decides. The rules are those of published recipes, and of LOG.md where something was measured.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from secondstage.config import TrainConfig, on_teacher
from secondstage.page import number

from .evaluations import affordable
from .size import Size, token_bytes, weight_bytes

# Lists that a training sees in all, those that come again counted again: one pass where there are many, several of few.
SEEN, MOST_EPOCHS = 10_000, 8
# Below so many labelled queries, tuning alone may end below a good first stage.
FEW = 1000
# Learning rates of a new head by the largest number of parameters they are for.
RATES = ((50e6, 1e-4), (200e6, 5e-5), (math.inf, 2e-5))
# Of the few layers of a cut student: measured on two and three of MiniLM's (LOG.md, 2026-11-30), of larger ones not.
CUT_RATES = ((50e6, 3e-4), *RATES[1:])
LEAST_STEPS, LEAST_TOKENS = 100, 1024
# Of a query, where there is no time for all queries: measured on two collections (LOG.md, 2026-11-23 and 2026-11-30).
BRIEF_NEGATIVES = 3
# The share of the memory that is planned with.
USABLE = 0.7


class Data(NamedTuple):
    """What is known before training.

    Attributes:
        lists: that are learnt from, of unlabelled and of synthetic queries too.
        labelled: those of them that folds can measure: of the collection's own queries, with a positive.
        positives: in the lists.
        pairs: of one epoch.
        tokens: of one epoch, padding included.
        dev_queries: on which checkpoints are chosen.
        documents: of the collection.
    """

    lists: int
    labelled: int
    positives: int
    pairs: int
    tokens: int
    dev_queries: int
    documents: int


class Proposal(NamedTuple):
    """A value of a key of `train`, and why."""

    value: int | float | bool | None
    reason: str


def propose(
    data: Data, model: Size, config: TrainConfig, *, seconds_per_token: float | None = None
) -> dict[str, Proposal]:
    """Values for keys of `train`; `epochs` is always among them, others only where there is a reason for them."""
    found = {"epochs": _epochs(data), "learning_rate": _rate(model, config)}
    # The others are for a budget that was decided, if it is known what that comes to.
    epochs = _decided(data, config, seconds_per_token) or float(found["epochs"].value or 1)
    if not config.folds:  # what they choose is decided
        found |= _evaluations(data, config, epochs)
        found |= _folds(data)
    found |= _steps(data, config, epochs)
    found |= _negatives(config, epochs)
    return found | _memory(data, model, config)


def advise(data: Data, model: Size, config: TrainConfig, *, seconds_per_token: float | None = None) -> list[str]:
    """What to expect and what is proposed, line by line.

    Args:
        data: what is learnt from.
        model: what learns, and where.
        config: what was decided.
        seconds_per_token: as the first step measured it.
    """
    proposed = propose(data, model, config, seconds_per_token=seconds_per_token)
    given = config.model_dump()
    new = {name: found for name, found in proposed.items() if given[name] != found.value}
    if any(given[budget] is not None for budget in ("minutes", "steps", "replay")):
        new.pop("epochs", None)  # the budget was decided
    lines = [_expect(data, model, config, seconds_per_token)]
    lines += [f"proposed: train.{name}={_typed(found.value)}: {found.reason}" for name, found in new.items()]
    if data.lists < FEW and data.documents >= FEW:
        lines.append(
            "proposed: warmup.minutes=5: with few labels, first learn from the collection itself; it is used only "
            "where it helps on dev"
        )
    return [line for line in lines if line]


def _expect(data: Data, model: Size, config: TrainConfig, seconds_per_token: float | None) -> str:
    length = data.tokens / max(1, data.pairs)
    activations = _kept(model, config) * token_bytes(model, length, checkpointing=config.gradient_checkpointing)
    gib = (weight_bytes(model) + activations) / 2**30
    text = (
        f"{data.lists:,} lists with {data.positives:,} positives; an epoch has {data.pairs:,} pairs and "
        f"{data.tokens:,} tokens; training takes about {gib:.1f} GiB for weights and activations"
    )
    if seconds_per_token is None:
        return text
    minutes = data.tokens * seconds_per_token / 60
    return f"{text}, an epoch about {number(minutes, 1 if minutes < 100 else 0)} minutes on this machine"


def _epochs(data: Data) -> Proposal:
    epochs = min(MOST_EPOCHS, max(1, round(SEEN / max(1, data.lists))))
    return Proposal(
        float(epochs),
        f"about {SEEN:,} lists in all, {MOST_EPOCHS} passes at most: many queries need one pass, few need several",
    )


def _decided(data: Data, config: TrainConfig, seconds_per_token: float | None) -> float | None:
    """How many epochs a budget of steps or minutes comes to."""
    if config.steps is not None:
        return config.steps * config.batch_tokens / max(1, data.tokens)
    if config.minutes is not None and seconds_per_token:
        return 60 * config.minutes / (seconds_per_token * max(1, data.tokens))
    return None


def _negatives(config: TrainConfig, epochs: float) -> dict[str, Proposal]:
    if epochs >= 1 or config.negatives <= BRIEF_NEGATIVES or on_teacher(config.loss):
        return {}
    reason = f"the budget passes over {epochs:.0%} of the lists: with fewer negatives it does over more queries"
    return {"negatives": Proposal(BRIEF_NEGATIVES, reason)}


def _rate(model: Size, config: TrainConfig) -> Proposal:
    if config.lora is not None:
        return Proposal(1e-4, "adapters start at zero and bear more than the weights themselves")
    if not model.new_head and config.student is None:
        return Proposal(2e-5, "the median of published trainings: a trained reranker is to be moved little")
    # Whose layers are cut out orders as chance does at first: it is not to be moved little.
    rates = RATES if config.student is None else CUT_RATES
    rate = next(rate for most, rate in rates if model.parameters <= most)
    start = "a new head on" if model.new_head else "layers without those they were trained with, of"
    return Proposal(
        rate, f"{start} {model.parameters / 1e6:,.0f} million parameters: the larger the model, the lower the rate"
    )


def _evaluations(data: Data, config: TrainConfig, epochs: float) -> dict[str, Proposal]:
    dev = data.dev_queries * config.dev_depth
    if not dev:
        return {}
    count = min(10, max(3, int(affordable(data.pairs * epochs, dev))))
    found = {
        "evaluations": Proposal(count, "rerankers often peak in the middle: as often as a tenth of the time allows")
    }
    if count >= 6:
        found["patience"] = Proposal(3, "three evaluations without a new best: it will hardly come any more")
    return found


def _folds(data: Data) -> dict[str, Proposal]:
    if data.dev_queries >= 50 or not 50 <= data.labelled < FEW:
        return {}
    return {
        "folds": Proposal(
            5, f"{data.dev_queries} dev queries cannot tell when to stop; {data.labelled} training queries in folds can"
        )
    }


def _steps(data: Data, config: TrainConfig, epochs: float) -> dict[str, Proposal]:
    """Few lists in large batches make too few steps: the learning rate has no time to rise and fall."""
    decided = config.steps is not None or config.replay is not None  # smaller batches make no more of them
    if decided or data.tokens * epochs >= LEAST_STEPS * config.batch_tokens:
        return {}
    tokens = max(LEAST_TOKENS, _power_of_two(data.tokens * epochs / LEAST_STEPS))
    if tokens >= config.batch_tokens:
        return {}
    steps = math.ceil(data.tokens * epochs / config.batch_tokens)
    return {"batch_tokens": Proposal(tokens, f"{config.batch_tokens:,} make {steps} steps only; about 100 are needed")}


def _memory(data: Data, model: Size, config: TrainConfig) -> dict[str, Proposal]:
    if not model.memory:
        return {}
    found: dict[str, Proposal] = {}
    room = USABLE * model.memory - weight_bytes(model)
    embedded = 2 * model.embeddings > model.parameters and not config.freeze_embeddings and config.lora is None
    if weight_bytes(model) > USABLE * model.memory / 2 and embedded:
        saved = model.embeddings * (weight_bytes(model) - weight_bytes(model._replace(trained=0))) // model.trained
        reason = f"{model.embeddings / 1e6:,.0f} million parameters of it need {saved / 2**30:.1f} GiB less"
        found["freeze_embeddings"] = Proposal(True, reason)
        room += saved
    length = data.tokens / max(1, data.pairs)
    kept = _kept(model, config)
    cost = token_bytes(model, length, checkpointing=config.gradient_checkpointing)
    if kept * cost <= room:
        return found
    if room < LEAST_TOKENS * cost and not config.gradient_checkpointing:
        found["gradient_checkpointing"] = Proposal(True, "memory does not hold the activations of a few pairs")
        cost = token_bytes(model, length, checkpointing=True)
    if kept * cost > room:
        reason = "memory holds no more activations; the gradient stays the same"
        found["memory_tokens"] = Proposal(max(LEAST_TOKENS, _power_of_two(room / cost)), reason)
    return found


def _kept(model: Size, config: TrainConfig) -> int:
    """Tokens whose activations a process keeps: its share of a step, or less."""
    own = math.ceil(config.batch_tokens / model.processes)
    return min(own, config.memory_tokens or own)


def _power_of_two(value: float) -> int:
    """The largest that is not above `value`; 1 at least."""
    return 1 << max(0, math.floor(math.log2(max(1.0, value))))


def _typed(value: float | bool | None) -> str:
    """As the command line takes it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
