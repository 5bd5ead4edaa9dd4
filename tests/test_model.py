"""The model that is trained: its start, and its two precisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from secondstage.config import TrainConfig
from secondstage.decoder import DecoderReranker
from secondstage.errors import UserError
from secondstage.networks import load_cross_encoder
from secondstage.rerankers import load_reranker
from secondstage.train.attention import NAME
from secondstage.train.model import check_start, start_model
from secondstage.train.weights import make_weights

from .families import FAMILIES, save_family

PAIRS = [
    ("water of the river", text) for text in ("river water bridge flood", "garden water soil", "chess king", "ice")
]


def start(tiny_model: Path, **settings: Any) -> tuple[Any, Any]:
    torch.manual_seed(4)
    scorer = start_model(TrainConfig(model=str(tiny_model), steps=1, **settings))
    return scorer.model, scorer.tokenizer


def dropouts(network: torch.nn.Module) -> set[float]:
    return {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_is_the_configured_one(tiny_model: Path, dropout: float) -> None:
    network, _ = start(tiny_model, dropout=dropout)
    assert dropouts(network) == {dropout}
    assert (network.config.hidden_dropout_prob, network.config.attention_probs_dropout_prob) == (dropout, dropout)
    assert network.config.num_labels == 1


def test_the_new_head_depends_on_the_seed_and_the_rest_is_the_models(tiny_model: Path) -> None:
    from transformers import AutoModel

    one, other = (start(tiny_model)[0] for _ in range(2))
    assert torch.equal(one.classifier.weight, other.classifier.weight)
    torch.manual_seed(5)
    third = start_model(TrainConfig(model=str(tiny_model), steps=1)).model
    assert not torch.equal(one.classifier.weight, third.classifier.weight)
    base = AutoModel.from_pretrained(tiny_model).state_dict()
    found = one.bert.state_dict()
    assert found.keys() == base.keys()
    assert all(torch.equal(found[name], base[name]) for name in base)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_starts_without_dropout_and_trains(family: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = save_family(family, tmp_path, tiny_model)
    network, _ = start(folder, dropout=0.3)
    assert dropouts(network) <= {0.3}
    assert 0.3 in {value for name, value in vars(network.config).items() if "attention" in name or "attn" in name}
    scorer = start_model(TrainConfig(model=str(folder), steps=1, max_length=64, precision="fp32"))
    assert dropouts(scorer.model) <= {0.0}
    assert scorer.model.config._attn_implementation == load_cross_encoder(str(folder))[0].config._attn_implementation
    half = start_model(TrainConfig(model=str(folder), steps=1, max_length=64, precision="bf16")).model
    assert half.config._attn_implementation in ("eager", NAME)
    rows = scorer.tokenize(PAIRS)
    with torch.no_grad():
        training = scorer.with_model(scorer.model.train()).logits(scorer.collate(rows, range(4)))
        scoring = scorer.with_model(scorer.model.eval()).logits(scorer.collate(rows, range(4)))
    assert training.tolist() == pytest.approx(scoring.tolist(), abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_starts_passes_the_look_before_it(family: str, tiny_model: Path, tmp_path: Path) -> None:
    """No weights are read: the folder has none."""
    folder = save_family(family, tmp_path / "base", tiny_model, layers=3)
    (folder / "model.safetensors").unlink()
    settings: dict[str, Any] = {"model": str(folder), "steps": 1, "max_length": 64}
    for more in ({}, {"student": {"layers": 2}, "freeze_layers": 1}, {"lora": {"rank": 2}}, {"precision": "fp32"}):
        check_start(TrainConfig.from_json({**settings, **more}))
    with pytest.raises(UserError, match=r"train\.freeze_layers is 4, but the model has 3 layers"):
        check_start(TrainConfig.from_json({**settings, "freeze_layers": 4}))
    with pytest.raises(UserError, match="cannot be loaded"):
        start_model(TrainConfig.from_json(settings))


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_a_yes_no_decoder_starts_with_its_instruction(family: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = save_family(family, tmp_path / "base", tiny_model, head="tokens", layers=3)
    config = TrainConfig.from_json(
        {
            "model": str(folder), "steps": 1, "head": "yes_no", "instruction": "find it", "max_length": 400,
            "student": {"layers": 2}, "freeze_layers": 1,
        }
    )  # fmt: skip
    scorer = start_model(config)
    assert isinstance(scorer, DecoderReranker)
    assert (scorer.instruction, scorer.max_length) == ("find it", 400)
    assert len(scorer.model.model.layers) == 2
    config = TrainConfig(model="none", steps=1, precision="bf16")
    weights = make_weights(scorer.model, config, Accelerator(cpu=True))
    half = scorer.with_model(weights.working)
    scores = scorer.score(PAIRS)
    assert half.score(PAIRS).tolist() == pytest.approx(scores.tolist(), abs=0.15 * float(np.ptp(scores)) + 0.5)
    half.logits(half.collate(half.tokenize(PAIRS), range(4))).sum().backward()
    weights.pull_gradients()
    for name, parameter in weights.master.named_parameters():
        assert (parameter.grad is not None) == (".layers.0." not in name), name
    scorer.save(tmp_path / "saved")
    assert load_reranker(tmp_path / "saved", precision="fp32").score(PAIRS).tolist() == pytest.approx(
        scores.tolist(), abs=1e-4
    )


def test_a_student_is_cut_before_its_layers_are_frozen(tiny_model: Path, tmp_path: Path) -> None:
    folder = save_family("bert", tmp_path, tiny_model, layers=4)
    settings = {"model": str(folder), "steps": 1, "student": {"layers": 2}}
    network = start_model(TrainConfig.from_json({**settings, "freeze_layers": 2, "freeze_embeddings": True})).model
    assert {n.partition(".")[2].partition(".")[0] for n, p in network.named_parameters() if p.requires_grad} == {
        "pooler", "weight", "bias",
    }  # fmt: skip
    with pytest.raises(UserError, match="freeze_layers is 3, but the model has 2 layers"):
        start_model(TrainConfig.from_json({**settings, "freeze_layers": 3}))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("family", ["bert", "deberta-v2", "modernbert", "qwen3"])
def test_recomputed_activations_give_the_same_gradient(
    family: str, dropout: float, tiny_model: Path, tmp_path: Path
) -> None:
    folder = save_family(family, tmp_path, tiny_model)
    found = []
    for wanted in (False, True):
        torch.manual_seed(4)
        config = TrainConfig(
            model=str(folder), steps=1, max_length=64, dropout=dropout, gradient_checkpointing=wanted, freeze_layers=1
        )
        scorer = start_model(config)
        recomputing = {getattr(module, "gradient_checkpointing", False) for module in scorer.model.modules()}
        assert (True in recomputing) == wanted
        scorer.model.train()
        torch.manual_seed(5)
        scorer.logits(scorer.collate(scorer.tokenize(PAIRS), range(4))).square().sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in scorer.model.parameters() if p.grad is not None]))
    assert found[0].norm() > 0
    assert torch.allclose(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_a_family_that_cannot_recompute_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="transformers cannot do this with a mpnet model"):
        start(save_family("mpnet", tmp_path, tiny_model), gradient_checkpointing=True)


def test_max_length_is_what_the_model_reads(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start_model(TrainConfig(model=str(tiny_model), steps=1, max_length=256)).max_length == 64
    told = f"  max_length is 64, not 256: {tiny_model} reads no more tokens of a pair"
    assert told in capsys.readouterr().err.splitlines()
    assert start_model(TrainConfig(model=str(tiny_model), steps=1, max_length=32)).max_length == 32
    assert "max_length" not in capsys.readouterr().err


def test_a_reranker_of_another_kind_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    base = save_family("llama", tmp_path / "base", tiny_model, head="tokens")
    load_reranker(base, kind="yes_no", precision="fp32").save(tmp_path / "saved")
    with pytest.raises(UserError, match=r"of kind yes_no, but train.head is classification: set train.head=yes_no"):
        start(tmp_path / "saved")
    assert start_model(TrainConfig(model=str(tmp_path / "saved"), steps=1, head="yes_no", max_length=400))


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        start(tmp_path / "nowhere")
