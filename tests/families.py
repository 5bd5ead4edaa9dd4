"""A tiny random model of each family, two layers or more, as a folder that `from_pretrained` opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ENCODERS = ("bert", "electra", "deberta", "deberta-v2", "roberta", "xlm-roberta", "modernbert", "distilbert", "mpnet",
            "gte")  # fmt: skip
DECODERS = ("llama", "qwen2", "qwen3", "gpt2")
FAMILIES = (*ENCODERS, *DECODERS)
LENGTH = 64
# Texts of words that the tokenizer of `tiny_model` knows, from one to thirty tokens.
PAIRS = [
    ("water of the river", "river water bridge flood bank current fish boat flow the river"),
    ("snow", "winter snow frost ice coat scarf cold sledge freeze " * 3),
    ("king of the chess", "ice"),
    ("the rail station ticket platform engine wheel carriage travel of the train", "train rail"),
    ("piano", "key pedal chord melody hammer string tune play"),
]


def byte_tokenizer(**names: str) -> Any:
    """Every byte is a token; so are yes, no, and the marks of ChatML. It runs the texts of a pair together.

    With a `bos_token`, each text starts with that, as Llama's do."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as Decoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(BPE({letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}, []))
    inner.pre_tokenizer = ByteLevel(add_prefix_space=False)
    inner.decoder = Decoder()
    inner.add_tokens(["yes", "no"])
    fast: Any = PreTrainedTokenizerFast
    found = fast(tokenizer_object=inner, model_max_length=1024, **names)
    found.add_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"], special_tokens=True)
    if "bos_token" in names:
        found.add_bos_token = True
        found.init_kwargs["add_bos_token"] = True
    return found


def save_family(
    family: str, folder: Path, tiny_model: Path, *, layers: int = 2, head: str = "none", **settings: Any
) -> Path:
    """Write a model with weights large enough for scores to differ, and its tokenizer.

    Args:
        family: one of `FAMILIES`.
        folder: to write.
        tiny_model: whose tokenizer encoders get.
        layers: of the model.
        head: "none", "classification" or "tokens".
        settings: of the configuration.
    """
    import torch
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )

    decoder = family in (*DECODERS, "phi")
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"} if family == "llama" else {}
    tokenizer: Any = byte_tokenizer(**names) if decoder else AutoTokenizer.from_pretrained(tiny_model)
    sizes: dict[str, Any] = {
        "vocab_size": max(tokenizer.get_vocab().values()) + 1,
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 1024 if decoder else LENGTH + 1,
        "pad_token_id": tokenizer.pad_token_id if decoder else 0,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "initializer_range": 0.2,
    }
    if family in DECODERS and family != "gpt2":
        sizes |= {"num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": family != "llama"}
    if family == "deberta-v2":  # as DeBERTa-v3
        sizes |= {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "share_att_key":
                  True, "norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0}  # fmt: skip
    if family == "modernbert":
        sizes |= {"local_attention": 8, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    if family == "electra":
        sizes |= {"embedding_size": 16}
    if head == "classification":
        sizes |= {"num_labels": 1}
    config = AutoConfig.for_model(family, **{**sizes, **settings})
    kinds: dict[str, Any] = {
        "none": AutoModel,
        "classification": AutoModelForSequenceClassification,
        "tokens": AutoModelForCausalLM,
    }
    torch.manual_seed(3)
    kinds[head].from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
