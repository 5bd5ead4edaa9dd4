"""How a new head begins."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from secondstage.config import TrainConfig
from secondstage.files import write_json
from secondstage.networks import load_cross_encoder, longest
from secondstage.newhead import DOCUMENT, LENGTH, MOST, QUERY, SPREAD, factor, spread_of
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


def edit(folder: Path, **settings: Any) -> None:
    """Change keys of a model's config.json; None takes one out."""
    config = json.loads((folder / "config.json").read_text()) | settings
    write_json(folder / "config.json", {key: value for key, value in config.items() if value is not None})


@pytest.mark.parametrize("deviation", [0.002, 0.9])
@pytest.mark.parametrize("family", FAMILIES)
def test_only_what_comes_after_the_layers_begins_otherwise(
    family: str, deviation: float, tiny_model: Path, tmp_path: Path
) -> None:
    """What is below the last matrix is the identity; that is ten times as large, or less where logits spread by one."""
    folder = save_family(family, tmp_path, tiny_model)
    edit(folder, initializer_range=deviation)
    given, scorer = drawn(folder), start(folder)
    # No number is drawn for it: what comes next is as it would be.
    torch.manual_seed(4)
    AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    after = torch.rand(1)
    start(folder)
    assert torch.equal(torch.rand(1), after)
    found = dict(scorer.model.named_parameters())
    changed = {name for name, weight in found.items() if not torch.equal(weight, given[name])}
    (last,) = (name for name in changed if found[name].shape[0] == 1)
    times = float((found[last].norm() / given[last].norm()).detach())
    assert torch.allclose(found[last], given[last] * times)
    spread = spread_of(scorer.model, scorer.tokenizer, longest(scorer.model, scorer.tokenizer, LENGTH))
    if deviation > 0.1 or family == "modernbert":  # whose last matrix goes by the size of the model
        assert times < MOST
        assert spread == pytest.approx(SPREAD, rel=0.06)
    else:
        assert times == pytest.approx(MOST)
        assert spread < SPREAD
    dense = {f"{DENSE[family]}.{part}" for part in ("weight", "bias")} & found.keys() if family in DENSE else set()
    # Biases are zero already, where all of the head is new for transformers.
    assert {last, *(name for name in dense if name.endswith("weight"))} <= changed <= {last, *dense}
    for name in dense:
        begun = found[name].detach()
        assert torch.equal(begun, torch.eye(len(begun)) if name.endswith("weight") else torch.zeros(len(begun)))


def test_a_pooler_of_the_files_is_replaced_and_its_bias_too(tiny_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(4)
    network, tokenizer = load_cross_encoder(str(tiny_model))
    with torch.no_grad():
        for parameter in network.bert.pooler.parameters():
            parameter.normal_()
    network.bert.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    dense = start(tmp_path).model.bert.pooler.dense
    assert torch.equal(dense.weight, torch.eye(32))
    assert not dense.bias.any()


@pytest.mark.parametrize("told", [True, False])
def test_a_trained_head_stays_also_where_the_config_does_not_name_it(
    told: bool, tiny_model: Path, tmp_path: Path
) -> None:
    trained = start(tiny_model)
    with torch.no_grad():
        trained.model.bert.pooler.dense.weight.normal_()
    trained.save(tmp_path / "trained")
    if not told:
        edit(tmp_path / "trained", architectures=None)
    again = start(tmp_path / "trained", seed=5)
    weights = zip(trained.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(weight, other) for weight, other in weights)


def test_a_matrix_of_the_files_that_is_no_pooler_stays(tiny_model: Path, tmp_path: Path) -> None:
    """ModernBERT brings one that was trained for words, with a normalisation that goes with it."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    folder = save_family("modernbert", tmp_path, tiny_model)
    torch.manual_seed(3)
    words: Any = AutoModelForMaskedLM
    words.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    given, found = drawn(folder), dict(start(folder).model.named_parameters())
    assert {name for name in found if not torch.equal(found[name], given[name])} == {"classifier.weight"}


def test_the_factor() -> None:
    """A closed form: to unit spread, at most ten, in two digits; what is not finite scales nothing."""
    assert [factor(spread) for spread in (0.0, 0.05, 0.1, 0.3, 1.0, 40.0)] == [10.0, 10.0, 10.0, 3.3, 1.0, 0.025]
    assert factor(math.nan) == factor(math.inf) == 1.0


def test_the_spread_is_that_of_pairs_of_random_tokens(tiny_model: Path) -> None:
    """Computed again, a pair at a time; another network of the same tokenizer sees the same texts."""
    seen: list[torch.Tensor] = []

    class Sum(torch.nn.Module):
        device = torch.device("cpu")

        def forward(self, input_ids: torch.Tensor, **_: torch.Tensor) -> Any:
            seen.append(input_ids)
            return type("Output", (), {"logits": input_ids.sum(dtype=torch.float32).view(1, 1)})

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
    spread = spread_of(Sum(), tokenizer, 24)
    assert spread == pytest.approx(statistics.stdev(float(row.sum()) for row in seen), rel=1e-5)
    assert len({tuple(row[0].tolist()) for row in seen}) == len(seen) == 32
    assert {row.shape for row in seen} == {(1, 24)}
    first = seen[:]
    spread_of(Sum(), tokenizer, LENGTH)
    assert all(len(row[0]) >= QUERY for row in seen)
    assert max(len(row[0]) for row in seen) > DOCUMENT
    spread_of(Sum(), tokenizer, 24)
    assert all(torch.equal(row, other) for row, other in zip(first, seen[-32:], strict=True))
