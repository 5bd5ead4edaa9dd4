"""What is frozen has no gradient, and stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from secondstage.errors import UserError
from secondstage.networks import load_cross_encoder
from secondstage.train.freezing import freeze
from secondstage.train.layers import depths

from .families import FAMILIES, PAIRS, save_family


def one_step(network: Any, tokenizer: Any) -> set[str]:
    """The parameters that a step changes."""
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    queries, documents = map(list, zip(*PAIRS, strict=True))
    network.train()
    logits = network(**tokenizer(queries, documents, padding=True, return_tensors="pt")).logits
    logits.square().sum().backward()
    torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1).step()
    return {name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("embeddings", "layers"), [(True, 0), (False, 2), (True, 1), (True, 3)])
def test_only_what_is_not_frozen_moves(
    family: str, embeddings: bool, layers: int, tiny_model: Path, tmp_path: Path
) -> None:
    network, tokenizer = load_cross_encoder(str(save_family(family, tmp_path, tiny_model, layers=3)))
    freeze(network, embeddings=embeddings, layers=layers)
    changed = one_step(network, tokenizer)
    deep = depths(network)
    frozen = ({0} if embeddings else set()) | set(range(1, layers + 1))
    assert not {name for name in changed if deep[name] in frozen}
    assert {deep[name] for name in changed} == set(range(5)) - frozen


def test_too_many_layers_are_refused(tiny_model: Path) -> None:
    network, _ = load_cross_encoder(str(tiny_model))
    with pytest.raises(UserError, match=r"freeze_layers is 3, but the model has 2 layers"):
        freeze(network, embeddings=False, layers=3)
    assert all(parameter.requires_grad for parameter in network.parameters())
