"""Networks: how a cross-encoder is opened, what is refused, how long its pairs are, in which precision it scores."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from typing import Any

from .compute import Precision, resolve, torch_dtype
from .errors import UserError
from .firsttoken import read_first_token
from .models import loading, quiet_transformers
from .pairtext import pool_last_token, put_words_around

HEAD = "ForSequenceClassification"


def load_cross_encoder(model: str, **settings: Any) -> tuple[Any, Any]:
    """Open a sequence-classification model with one output, and its tokenizer.

    A model without such a head gets a new one, with weights drawn from torch's global generator. `settings` go to
    `from_pretrained`.

    Raises:
        UserError: the model cannot be found, is not a single-label classifier, or the tokenizer does not fit it.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with quiet_transformers():
        config = settings.pop("config", None) or read_network_config(model)
        trained = has_head(config)
        check_outputs(model, config)
        config.num_labels = 1
        if getattr(config, "use_cache", False):
            config.use_cache = False  # of keys and values for the next token, which there is none of
        # In single precision, whatever the file holds: training needs it, and scoring casts it again.
        settings = {"dtype": "float32", "config": config, "trust_remote_code": False} | settings
        network: Any = loading(
            model, lambda place: AutoModelForSequenceClassification.from_pretrained(place, **settings)
        )
        tokenizer = loading(model, lambda place: AutoTokenizer.from_pretrained(place, trust_remote_code=False))
    check_vocabulary(model, network, tokenizer)
    _leave_out_unread_inputs(network, tokenizer)
    pool_last_token(network, tokenizer)
    if not trained:
        put_words_around(tokenizer)
    read_first_token(network)
    return network, tokenizer


def read_network_config(model: str) -> Any:
    """The configuration of a model, a new one at each call."""
    from transformers import AutoConfig

    # Said outright: where nothing is said, transformers asks on the terminal.
    return loading(model, lambda place: AutoConfig.from_pretrained(place, trust_remote_code=False))


def has_head(config: Any) -> bool:
    """Whether a configuration is that of a trained classifier, whose head is then no new one."""
    return any(name.endswith(HEAD) for name in config.architectures or ())


def check_outputs(model: str, config: Any) -> None:
    """Raise `UserError` if the model is a trained classifier of several labels."""
    if has_head(config) and config.num_labels != 1:
        raise UserError(
            f"model {model!r} is not a single-label classifier: it has {config.num_labels} outputs, and the score of a "
            "pair is one; give a reranker with one output, or the encoder that it was made from"
        )


def check_vocabulary(model: str, network: Any, tokenizer: Any) -> None:
    """Raise `UserError` if the tokenizer has tokens that the model has no embedding of."""
    try:
        known = network.get_input_embeddings().num_embeddings
    except (NotImplementedError, AttributeError):  # models that embed something else, such as characters
        return
    # Not their number: there may be gaps.
    last = max(tokenizer.get_vocab().values(), default=-1)
    if last >= known:
        raise UserError(
            f"model {model!r} has a tokenizer that does not fit the model: it gives token ids up to {last}, but there "
            f"are embeddings of {known} tokens only; give the folder with the tokenizer that the model was trained with"
        )


def longest(network: Any, tokenizer: Any, wanted: int | None) -> int:
    """The tokens of a pair that a model can read, and no more than `wanted`.

    Some configurations say nothing or -1 of their positions: then the tokenizer's limit stands. Some families, RoBERTa
    among them, count positions from behind the padding's.
    """
    positions = getattr(network.config.get_text_config(), "max_position_embeddings", None) or -1
    table = getattr(getattr(network.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    if positions > 0 and padding is not None:
        positions -= padding + 1
    limits = [tokenizer.model_max_length, wanted, positions if positions > 0 else None]
    return int(min(limit for limit in limits if limit is not None))


def at_precision(network: Any, precision: Precision) -> Any:
    """Cast a model that will only compute. In half precision the layer that gives the logit stays in single precision.

    A bf16 logit has three digits: candidates would tie that the model does tell apart. Casting once is faster than
    autocast, which casts weights and activations again for every batch. Buffers keep their precision: rotary
    frequencies in bf16 would put distant tokens in wrong places.
    """
    if resolve(precision) == "fp32":
        return network.float()
    exact = [(head, copy.deepcopy(head.state_dict())) for head in heads_of(network)]
    buffers = [
        (module, name, buffer)
        for module in network.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and buffer.is_floating_point()
    ]
    network = network.to(torch_dtype(precision))
    for module, name, buffer in buffers:
        module._buffers[name] = buffer.to(module._buffers[name].device)
    for head, weights in exact:
        head.float().load_state_dict(weights)
        head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    return network


def heads_of(network: Any) -> list[Any]:
    """The layer that gives the logit, in a list; none if there is no such layer.

    It is the last linear layer with one output outside the base model, or a decoder's two answers. Inside there may
    be others, such as adapters of rank one.
    """
    import torch

    inside = set() if network.base_model is network else set(network.base_model.modules())
    found = [
        module
        for module in network.modules()
        if module not in inside
        and ((isinstance(module, torch.nn.Linear) and module.out_features == 1) or hasattr(module, "answers"))
    ]
    return found[-1:]


def merged(network: Any) -> Any:
    """A copy whose adapters (peft) are merged into the weights; the network itself if it has none."""
    if not any(True for _ in _adapted(network)):
        return network
    plain = copy.deepcopy(network)
    for name, layer in list(_adapted(plain)):
        layer.merge()
        plain.set_submodule(name, layer.get_base_layer())
    return plain


def _adapted(network: Any) -> Iterator[tuple[str, Any]]:
    """Layers that peft has put adapters around, told apart without importing it."""
    for name, module in network.named_modules():
        if hasattr(module, "get_base_layer") and hasattr(module, "merge"):
            yield name, module


def _leave_out_unread_inputs(network: Any, tokenizer: Any) -> None:
    """Keep the tokenizer from giving segment ids to a model that reads none, or that knows one segment only."""
    reads = "token_type_ids" in inspect.signature(network.forward).parameters
    if not reads or getattr(network.config, "type_vocab_size", None) == 1:
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
