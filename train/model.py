"""The model that is trained: how it starts, and in which precision it computes."""

from __future__ import annotations

from typing import Any

from secondstage.compute import device, resolve
from secondstage.config import TrainConfig
from secondstage.decoder import INSTRUCTION, DecoderReranker, load_decoder
from secondstage.errors import UserError
from secondstage.firsttoken import FAMILIES, read_first_token
from secondstage.inputs import check_kind
from secondstage.models import read_config
from secondstage.networks import load_cross_encoder, longest
from secondstage.pairmodel import PairModel, read_contract
from secondstage.progress import say
from secondstage.reranker import Reranker

from .attention import use
from .freezing import freeze
from .lora import adapt
from .student import cut


def start_model(config: TrainConfig) -> PairModel:
    """The model as training starts with it, in single precision: loaded, cut, frozen, with adapters.

    A new head, and then adapters, are drawn from torch's global generator. What is tuned needs a gradient, and nothing
    else does. `max_length` is what the model can read, at most.

    Raises:
        UserError: the model cannot be had, or has not what the configuration asks for.
    """
    return _started(config, weights=True)


def check_start(config: TrainConfig) -> None:
    """Raise `UserError` if `start_model` would, as far as configuration and tokenizer tell: no weights are read."""
    _started(config, weights=False)


def _started(config: TrainConfig, *, weights: bool) -> PairModel:
    check_kind(config)
    model_config = read_config(config.model)
    set_dropout(model_config, config.dropout)
    # In bf16 on CPUs SDPA's backward is slow: with eager attention a step is 1.5 times as fast (bench/step.py). BERT's
    # families get our own, which is a little faster still. In fp32 SDPA is a tenth faster than both.
    attention = "eager" if device() == "cpu" and resolve(config.precision) != "fp32" else None
    load = load_cross_encoder if config.head == "classification" else load_decoder
    network, tokenizer = load(config.model, weights=weights, config=model_config, attn_implementation=attention)
    if attention and type(network).__name__ in FAMILIES:
        use(network)
    if config.student:
        network = cut(network, config.student.layers, config.student.keep).network
        read_first_token(network)
    most = longest(network, tokenizer, config.max_length)
    if most < config.max_length and weights:
        say(f"  max_length is {most}, not {config.max_length}: {config.model} reads no more tokens of a pair")
    shared: dict[str, Any] = {"max_length": most, "batch_tokens": config.scoring_tokens}
    network = network.to(device()) if weights else network
    scorer: PairModel
    if config.head == "classification":
        scorer = Reranker(network, tokenizer, **shared)
    else:
        instruction = config.instruction or read_contract(config.model).get("instruction") or INSTRUCTION
        scorer = DecoderReranker(network, tokenizer, instruction=instruction, **shared)
    freeze(scorer.model, embeddings=config.freeze_embeddings, layers=config.freeze_layers)
    if config.lora:
        adapt(scorer.model, config.lora)
    if config.gradient_checkpointing:
        recompute_activations(scorer.model)
    if not any(parameter.requires_grad for parameter in scorer.model.parameters()):
        raise UserError(
            "everything is frozen, so there is nothing to train: lower train.freeze_layers, or unset "
            "train.freeze_embeddings"
        )
    return scorer


def recompute_activations(network: Any) -> None:
    """Have each layer keep its input only, and compute again what its gradient needs; dropout is drawn the same.

    Raises:
        UserError: the family cannot do this.
    """
    # Later versions of transformers have the first, and warn of the second.
    names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    enable = next(getattr(network, name) for name in names if hasattr(network, name))
    try:
        enable({"use_reentrant": False})
    except ValueError:
        raise UserError(
            f"train.gradient_checkpointing: transformers cannot do this with a {network.config.model_type} model; set "
            "it to false, and lower train.memory_tokens if memory is short"
        ) from None


def set_dropout(config: Any, share: float) -> None:
    """Set every dropout of a configuration, whatever its family calls it.

    One that is none is left: it stands for another one. Dropping whole layers is something else.
    """
    for part in (config, config.get_text_config()):
        for name, value in list(vars(part).items()):
            numeric = isinstance(value, int | float) and not isinstance(value, bool)
            if numeric and ("dropout" in name or name.endswith("_pdrop")):
                setattr(part, name, share)
