"""Networks: how a cross-encoder is opened, what is refused, how long its pairs are, in which precision it scores."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from typing import Any, Literal

from .compute import Precision, resolve, torch_dtype
from .errors import UserError
from .firsttoken import read_first_token
from .models import outlined, pretrained, quiet_transformers, read_config
from .pairtext import check_pairs, pool_last_token, put_words_around

# How the classes are named that have a head.
HEADS = {"classification": ("ForSequenceClassification",), "yes_no": ("ForCausalLM", "LMHeadModel")}
# Families that mix padding into the other tokens, or draw what they attend to: a pair's score would depend on the pairs
# that it is padded with. `tests/test_networks.py` asks all others that it has.
MIX_PADDING = ("big_bird", "canine", "convbert", "fnet", "nystromformer", "yoso")
# Tokenizers without a limit of their own say a number like 1e30.
NO_LIMIT = 1_000_000_000


def load_cross_encoder(model: str, *, weights: bool = True, **settings: Any) -> tuple[Any, Any]:
    """Open a sequence-classification model with one output, and its tokenizer.

    A model without such a head gets a new one, with weights drawn from torch's global generator. `settings` go to
    `from_pretrained`. Without `weights` it is on torch's meta device, to be looked at.

    Raises:
        UserError: the model cannot be found, is not a single-label classifier, mixes padding into its scores, or was
            trained on pairs that run together, or the tokenizer does not fit it.
    """
    from transformers import AutoModelForSequenceClassification

    with quiet_transformers():
        config = settings.pop("config", None) or read_config(model)
        trained = has_head(config)
        check_outputs(model, config)
        check_padding(model, config)
        config.num_labels = 1
        if getattr(config, "use_cache", False):
            config.use_cache = False  # of keys and values for the next token, which there is none of
        # In single precision, whatever the file holds: training needs it, and scoring casts it again.
        settings = {"dtype": "float32", "config": config} | settings
        network = (pretrained if weights else outlined)(AutoModelForSequenceClassification, model, **settings)
    tokenizer = fitting_tokenizer(model, config)
    _leave_out_unread_inputs(network, tokenizer)
    pool_last_token(network, tokenizer)
    if trained:
        check_pairs(model, tokenizer)
    else:
        put_words_around(tokenizer)
    read_first_token(network)
    return network, tokenizer


def fitting_tokenizer(model: str, config: Any) -> Any:
    """The tokenizer of a model, as `load_tokenizer` does, if it fits what the configuration says of the model.

    Raises:
        UserError: it cannot be loaded, knows no words, or has tokens that the model has no embedding of.
    """
    tokenizer = load_tokenizer(model)
    # Models that embed something else, such as characters, say nothing of a vocabulary.
    known = getattr(config.get_text_config(), "vocab_size", None)
    # Not the number of tokens: there may be gaps.
    last = max(tokenizer.get_vocab().values(), default=-1)
    if known is not None and last >= known:
        raise UserError(
            f"model {model!r} has a tokenizer that does not fit the model: it gives token ids up to {last}, but there "
            f"are embeddings of {known} tokens only; give the folder with the tokenizer that the model was trained with"
        )
    return tokenizer


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a model, made to cut the end of a text, as exports do: what comes first is the query.

    Raises:
        UserError: it cannot be loaded, or knows no words.
    """
    from transformers import AutoTokenizer

    with quiet_transformers():
        tokenizer = pretrained(AutoTokenizer, model)
    # Where a folder has no files of a tokenizer, transformers makes one up.
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise UserError(
            f"model {model!r} has a tokenizer that knows no words, only special tokens, so all texts would be alike: "
            "its files (tokenizer.json, or a vocabulary) are missing; copy those of the model that it was trained from"
        )
    tokenizer.truncation_side = "right"
    return tokenizer


def has_head(config: Any, head: Literal["classification", "yes_no"] = "classification") -> bool:
    """Whether a configuration is that of a trained classifier, or of a decoder that predicts words: no head is new."""
    if head == "yes_no" and config.get_text_config().tie_word_embeddings:
        return True
    return any(name.endswith(HEADS[head]) for name in config.architectures or ())


def check_outputs(model: str, config: Any) -> None:
    """Raise `UserError` if the model is a trained classifier of several labels."""
    if has_head(config) and config.num_labels != 1:
        raise UserError(
            f"model {model!r} is not a single-label classifier: it has {config.num_labels} outputs, and the score of a "
            "pair is one; give a reranker with one output, or the encoder that it was made from"
        )


def check_padding(model: str, config: Any) -> None:
    """Raise `UserError` if a pair's score would depend on the pairs that it is computed with."""
    kind = config.model_type
    if kind not in MIX_PADDING or getattr(config, "attention_type", "") == "original_full":
        return
    other = ', or set "attention_type": "original_full" in its config.json' if kind == "big_bird" else ""
    raise UserError(
        f"model {model!r} is of the family {kind}, in which the score of a pair depends on the pairs that it is "
        f"computed with, so no order would hold: give an encoder of another family (BERT, DeBERTa, …){other}"
    )


def longest(network: Any, tokenizer: Any, wanted: int | None) -> int:
    """The tokens of a pair that a model can read, and no more than `wanted`.

    Some configurations say nothing or -1 of their positions: then the tokenizer's limit stands. Some families, RoBERTa
    among them, count positions from behind the padding's.

    Raises:
        UserError: nothing says a limit.
    """
    positions = getattr(network.config.get_text_config(), "max_position_embeddings", None) or -1
    table = getattr(getattr(network.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    if positions > 0 and padding is not None:
        positions -= padding + 1
    given = (tokenizer.model_max_length, wanted, positions if positions > 0 else None)
    limits = [limit for limit in given if limit is not None and limit < NO_LIMIT]
    if not limits:
        raise UserError(
            f"neither the {network.config.model_type} model nor its tokenizer says how long a text may be: give "
            "max_length, or write model_max_length into its tokenizer_config.json"
        )
    return int(min(limits))


def at_precision(network: Any, precision: Precision) -> Any:
    """Cast a model that will only compute. In half precision the layer that gives the logit stays in single precision.

    A bf16 logit has three digits: candidates would tie that the model does tell apart. Casting once is faster than
    autocast, which casts weights and activations again for every batch. Buffers keep their precision: rotary
    frequencies in bf16 would put distant tokens in wrong places.
    """
    if resolve(precision) == "fp32":
        return network.float()
    exact = [(head, copy.deepcopy(head.state_dict())) for head in heads_of(network)]
    buffers = exact_buffers(network)
    network = network.to(torch_dtype(precision))
    for module, name, buffer in buffers:
        module._buffers[name] = buffer.to(module._buffers[name].device)
    for head, weights in exact:
        head.float().load_state_dict(weights)
        head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    return network


def exact_buffers(network: Any) -> list[tuple[Any, str, Any]]:
    """The buffers of a network that a cast of the whole would round, as (module, name, buffer)."""
    return [
        (module, name, buffer)
        for module in network.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and buffer.is_floating_point()
    ]


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
