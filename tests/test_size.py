"""Memory of a training, against what autograd really keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from secondstage.networks import load_cross_encoder
from secondstage.train.size import Size, device_memory, size_of, token_bytes, weight_bytes

MODEL = Size(100, 100, 50, 6, 384, 12, new_head=True, half=False)


def test_memory_of_weights() -> None:
    """fp32: weight, gradient, two moments. bf16: a copy and its gradient on top. What is frozen is a weight only."""
    small = MODEL._replace(parameters=100, trained=100, half=False)
    assert weight_bytes(small) == 100 * 4 * 4
    assert weight_bytes(small._replace(half=True)) == 100 * (4 * 4 + 2 * 2)
    assert weight_bytes(small._replace(trained=0)) == 400


@pytest.mark.parametrize(("length", "half"), [(16, False), (64, False), (64, True)])
def test_memory_of_activations_is_what_autograd_keeps(length: int, half: bool) -> None:
    shape: Any = cast(Any, BertConfig)(
        vocab_size=50,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=1,
        attn_implementation="eager",
    )
    network: Any = BertForSequenceClassification(shape)
    network = network.to(torch.bfloat16 if half else torch.float32).train()
    places = {parameter.data_ptr() for parameter in network.parameters()}
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in places:
            places.add(tensor.data_ptr())
            kept.append(tensor)
        return tensor

    ids = torch.randint(5, 50, (8, length))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum()
    measured = sum(tensor.numel() * tensor.element_size() for tensor in kept)
    model = MODEL._replace(layers=4, hidden=64, heads=4, half=half)
    assert 8 * length * token_bytes(model, length) == pytest.approx(measured, rel=0.1)


def test_checkpointing_keeps_one_layer_and_the_inputs_of_all() -> None:
    model = MODEL._replace(layers=6, hidden=100, heads=2, half=True)
    assert token_bytes(model, 50) == 2 * 6 * (1600 + 100)
    assert token_bytes(model, 50, checkpointing=True) == 2 * (6 * 100 + 1600 + 100)


def test_the_size_of_a_model(tiny_model: Path) -> None:
    """Two layers of width 32 with two heads, from the fixture's config."""
    network, tokenizer = load_cross_encoder(str(tiny_model))
    network.get_input_embeddings().weight.requires_grad_(False)
    found = size_of(network, new_head=True, half=False)
    assert found[2:6] == (len(tokenizer) * 32, 2, 32, 2)
    assert found.parameters - found.trained == found.embeddings
    assert found.parameters == sum(
        tensor.numel() for name, tensor in network.state_dict().items() if "_ids" not in name
    )
    assert 0 < found.memory == device_memory()
