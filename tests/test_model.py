"""The model that is trained: its start, and its two precisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from secondstage.compute import Precision
from secondstage.config import TrainConfig
from secondstage.decoder import DecoderReranker
from secondstage.errors import UserError
from secondstage.reranker import Reranker
from secondstage.rerankers import load_reranker
from secondstage.train.losses.listwise import lce
from secondstage.train.model import MixedPrecision, start_model

from .families import FAMILIES, save_family

PAIRS = [
    ("water of the river", text) for text in ("river water bridge flood", "garden water soil", "chess king", "ice")
]


def start(tiny_model: Path, **settings: Any) -> tuple[Any, Any]:
    torch.manual_seed(4)
    scorer = start_model(TrainConfig(model=str(tiny_model), steps=1, **settings))
    return scorer.model, scorer.tokenizer


def spread(network: Any) -> Any:
    """Weights large enough for gradients to matter."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
    return network


def mixed(tiny_model: Path, precision: Precision) -> tuple[MixedPrecision, Any]:
    network, tokenizer = start(tiny_model)
    return MixedPrecision(spread(network), precision), tokenizer


def backward(weights: MixedPrecision, tokenizer: Any) -> float:
    """One step up to the gradients; the loss."""
    queries, documents = map(list, zip(*PAIRS, strict=True))
    features = tokenizer(queries, documents, padding=True, return_tensors="pt")
    weights.working.train()
    scores = weights.working(**features).logits.view(2, 2)
    loss = lce(scores, mask=torch.ones(2, 2, dtype=torch.bool))
    torch.autograd.backward(loss)
    weights.pull_gradients()
    return loss.item()


def gradient(weights: MixedPrecision) -> Tensor:
    return torch.cat([p.grad.flatten() for p in weights.master.parameters() if p.grad is not None])


def dropouts(network: torch.nn.Module) -> set[float]:
    return {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_is_the_configured_one(tiny_model: Path, dropout: float) -> None:
    network, _ = start(tiny_model, dropout=dropout)
    assert dropouts(network) == {dropout}
    assert (network.config.hidden_dropout_prob, network.config.attention_probs_dropout_prob) == (dropout, dropout)
    assert network.config.num_labels == 1


def test_without_dropout_training_computes_what_scoring_does(tiny_model: Path) -> None:
    weights, tokenizer = mixed(tiny_model, "fp32")
    features = tokenizer("water", "river", return_tensors="pt")
    with torch.no_grad():
        training = weights.working.train()(**features).logits.item()
        assert training == pytest.approx(weights.working.eval()(**features).logits.item(), abs=1e-6)


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


def test_in_single_precision_both_models_are_one(tiny_model: Path) -> None:
    weights, tokenizer = mixed(tiny_model, "fp32")
    assert weights.working is weights.master
    backward(weights, tokenizer)
    before = gradient(weights).clone()
    weights.push_weights()
    weights.pull_gradients()
    assert torch.equal(gradient(weights), before)
    assert before.norm() > 0.1


def test_the_gradient_in_half_precision_is_close(tiny_model: Path) -> None:
    single, tokenizer = mixed(tiny_model, "fp32")
    half, _ = mixed(tiny_model, "bf16")
    assert backward(half, tokenizer) == pytest.approx(backward(single, tokenizer), rel=0.05)
    one, other = gradient(half), gradient(single)
    assert one.dtype == torch.float32
    assert one.shape == other.shape
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.99
    assert (one.norm() / other.norm()).item() == pytest.approx(1, abs=0.05)
    assert not torch.equal(one, other)


def test_gradients_are_moved_and_weights_copied(tiny_model: Path) -> None:
    weights, tokenizer = mixed(tiny_model, "bf16")
    assert weights.working is not weights.master
    master, working = (list(network.parameters()) for network in (weights.master, weights.working))
    assert {p.dtype for p in master} == {torch.float32}
    backward(weights, tokenizer)
    assert all(p.grad is None for p in working)
    assert any(p.grad is not None for p in master)
    # A change far below bf16's resolution is lost in the copy, and kept in the master.
    with torch.no_grad():
        for parameter in master:
            parameter.mul_(1 + 1e-5)
    for old, new in zip(master, working, strict=True):
        assert new.dtype == (torch.float32 if old.shape in ((1, 32), (1,)) else torch.bfloat16)
    weights.push_weights()
    for old, new in zip(master, working, strict=True):
        assert torch.equal(new, old.to(new.dtype))
    assert not torch.equal(working[0].float(), master[0])


def test_many_small_steps_add_up_in_half_precision(tiny_model: Path) -> None:
    """In pure bf16 a step below 2⁻⁸ of a weight would be lost every time."""
    weights, _ = mixed(tiny_model, "bf16")
    first = next(iter(weights.master.parameters()))
    start_at = first.detach().clone()
    for _ in range(100):
        with torch.no_grad():
            first.mul_(1 + 1e-3)
        weights.push_weights()
    working = next(iter(weights.working.parameters())).float()
    assert torch.allclose(working, start_at * (1 + 1e-3) ** 100, rtol=2**-7)


def test_an_unused_parameter_has_no_gradient(tiny_model: Path) -> None:
    weights, tokenizer = mixed(tiny_model, "bf16")
    backward(weights, tokenizer)
    next(iter(weights.master.parameters())).grad = None
    stale = [p.grad is not None for p in weights.master.parameters()]
    assert any(stale)
    weights.pull_gradients()  # nothing was computed since
    assert [p.grad for p in weights.master.parameters()] == [None] * len(stale)


def test_half_precision_trains_the_model_that_is_saved(tiny_model: Path, tmp_path: Path) -> None:
    weights, tokenizer = mixed(tiny_model, "bf16")
    optimizer = torch.optim.SGD(weights.master.parameters(), lr=0.5)
    before = backward(weights, tokenizer)
    optimizer.step()
    weights.push_weights()
    assert backward(weights, tokenizer) < before
    Reranker(weights.master, tokenizer, max_length=32).save(tmp_path)
    saved = Reranker.load(tmp_path, precision="fp32")
    assert all(torch.equal(a, b) for a, b in zip(saved.model.parameters(), weights.master.parameters(), strict=True))


# --- every kind of start


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_starts_without_dropout_and_trains(family: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = save_family(family, tmp_path, tiny_model)
    network, _ = start(folder, dropout=0.3)
    assert dropouts(network) <= {0.3}
    assert 0.3 in {value for name, value in vars(network.config).items() if "attention" in name or "attn" in name}
    scorer = start_model(TrainConfig(model=str(folder), steps=1, max_length=64))
    assert dropouts(scorer.model) <= {0.0}
    assert scorer.model.config._attn_implementation == "eager"
    rows = scorer.tokenize(PAIRS)
    with torch.no_grad():
        training = scorer.with_model(scorer.model.train()).logits(scorer.collate(rows, range(4)))
        scoring = scorer.with_model(scorer.model.eval()).logits(scorer.collate(rows, range(4)))
    assert training.tolist() == pytest.approx(scoring.tolist(), abs=1e-6)


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
    weights = MixedPrecision(scorer.model, "bf16")
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


def test_max_length_is_what_the_model_reads(tiny_model: Path) -> None:
    assert start_model(TrainConfig(model=str(tiny_model), steps=1, max_length=256)).max_length == 64
    assert start_model(TrainConfig(model=str(tiny_model), steps=1, max_length=32)).max_length == 32


def test_a_reranker_of_another_kind_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    base = save_family("llama", tmp_path / "base", tiny_model, head="tokens")
    load_reranker(base, kind="yes_no", precision="fp32").save(tmp_path / "saved")
    with pytest.raises(UserError, match=r"of kind yes_no, but train.head is classification: set train.head=yes_no"):
        start(tmp_path / "saved")
    assert start_model(TrainConfig(model=str(tmp_path / "saved"), steps=1, head="yes_no", max_length=400))


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        start(tmp_path / "nowhere")
