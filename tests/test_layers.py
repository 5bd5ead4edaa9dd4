"""The parts of every family's network, and how deep each parameter lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from secondstage.errors import UserError
from secondstage.networks import load_cross_encoder
from secondstage.train.layers import depths, layers_of

from .families import FAMILIES, PAIRS, save_family


@pytest.mark.parametrize("family", FAMILIES)
def test_each_layer_is_one_and_they_run_in_order(family: str, tiny_model: Path, tmp_path: Path) -> None:
    network, tokenizer = load_cross_encoder(str(save_family(family, tmp_path, tiny_model, layers=3)))
    embeddings, layers, path = layers_of(network)
    assert len(layers) == 3
    assert network.get_submodule(path) is layers
    order: list[object] = []

    def note(name: object) -> Callable[..., None]:
        return lambda *_: order.append(name)

    for i, layer in enumerate(layers):
        layer.register_forward_hook(note(i))
    network.get_input_embeddings().register_forward_hook(note("tokens"))
    with torch.no_grad():
        network(**tokenizer(*PAIRS[0], return_tensors="pt"))
    assert order == ["tokens", 0, 1, 2]
    assert any(module is network.get_input_embeddings() for module in embeddings.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_a_depth_that_its_name_shows(family: str, tiny_model: Path, tmp_path: Path) -> None:
    network, _ = load_cross_encoder(str(save_family(family, tmp_path, tiny_model, layers=3)))
    found = depths(network)
    assert found.keys() == {name for name, _ in network.named_parameters()}
    for name, depth in found.items():
        numbers = [int(part) for part in name.split(".") if part.isdigit()]
        if numbers:
            assert depth == numbers[0] + 1
        else:
            embeds = any(word in name for word in ("embed", "wte", "wpe", "relative_attention_bias"))
            assert depth == (0 if embeds else 4), name
    assert {0, 1, 2, 3, 4} == set(found.values())


def test_layers_that_share_weights_cannot_be_told_apart() -> None:
    from transformers import AlbertConfig, AlbertForSequenceClassification

    config = AlbertConfig(
        vocab_size=20, embedding_size=8, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8
    )
    with pytest.raises(UserError, match="the layers of a albert model cannot be told apart"):
        layers_of(AlbertForSequenceClassification(config))
