"""How a new head begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from secondstage.config import TrainConfig
from secondstage.files import write_json
from secondstage.networks import longest
from secondstage.newhead import LENGTH, MOST, SPREAD, spread_of
from secondstage.train.model import start_model

from .families import FAMILIES, save_family

# The matrix of each family, beside the last, between its layers and the logit; decoders have none.
DENSE = {
    "bert": "bert.pooler.dense",
    "electra": "classifier.dense",
    "deberta": "pooler.dense",
    "deberta-v2": "pooler.dense",
    "roberta": "classifier.dense",
    "xlm-roberta": "classifier.dense",
    "modernbert": "head.dense",
    "distilbert": "pre_classifier",
    "mpnet": "classifier.dense",
    "gte": "gte.pooler.dense",
}


def start(folder: Path, seed: int = 4) -> Any:
    torch.manual_seed(seed)
    return start_model(TrainConfig(model=str(folder), steps=1, precision="fp32"))


def drawn(folder: Path, seed: int = 4) -> dict[str, torch.Tensor]:
    """The parameters as transformers gives them."""
    torch.manual_seed(seed)
    found: Any = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    return dict(found.named_parameters())


@pytest.mark.parametrize("deviation", [0.002, 0.9])
@pytest.mark.parametrize("family", FAMILIES)
def test_only_what_comes_after_the_layers_begins_otherwise(
    family: str, deviation: float, tiny_model: Path, tmp_path: Path
) -> None:
    """What is below the last matrix is the identity; that is ten times as large, or less where logits spread by one."""
    folder = save_family(family, tmp_path, tiny_model)
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, "initializer_range": deviation})
    given, scorer = drawn(folder), start(folder)
    found = dict(scorer.model.named_parameters())
    changed = {name for name, weight in found.items() if not torch.equal(weight, given[name])}
    (last,) = (name for name in changed if found[name].shape[0] == 1)
    factor = float((found[last].norm() / given[last].norm()).detach())
    assert torch.allclose(found[last], given[last] * factor)
    spread = spread_of(scorer.model, scorer.tokenizer, longest(scorer.model, scorer.tokenizer, LENGTH))
    if deviation > 0.1 or family == "modernbert":  # whose last matrix goes by the size of the model
        assert factor < MOST
        assert spread == pytest.approx(SPREAD, rel=1e-3)
    else:
        assert factor == pytest.approx(MOST)
        assert spread < SPREAD
    dense = {f"{DENSE[family]}.{part}" for part in ("weight", "bias")} & found.keys() if family in DENSE else set()
    # Biases are zero already, where all of the head is new for transformers.
    assert {last, *(name for name in dense if name.endswith("weight"))} <= changed <= {last, *dense}
    for name in dense:
        begun = found[name].detach()
        assert torch.equal(begun, torch.eye(len(begun)) if name.endswith("weight") else torch.zeros(len(begun)))


def test_a_trained_head_stays(tiny_model: Path, tmp_path: Path) -> None:
    first = start(tiny_model)
    first.save(tmp_path / "trained")
    second = start(tmp_path / "trained", seed=5)
    assert all(
        torch.equal(weight, other)
        for weight, other in zip(first.model.parameters(), second.model.parameters(), strict=True)
    )
