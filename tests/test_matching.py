"""Matching layers: closed forms, invariances, and that a student learns to do what its teacher does."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from secondstage.config.train import StudentConfig
from secondstage.errors import UserError
from secondstage.firsttoken import read_all_tokens
from secondstage.networks import load_cross_encoder
from secondstage.train.matching import Matching, attention_loss, hidden_loss, show_attention

MASK = torch.tensor([[True, True, False], [True, False, False]])


def distributions(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).softmax(dim=-1)


def test_hidden_states_differ_by_their_mean_square() -> None:
    student, teacher = torch.zeros(2, 3, 2), torch.zeros(2, 3, 2)
    student[0, 0], student[0, 1], student[1, 0] = torch.tensor([[1.0, 3.0], [0.0, 2.0], [4.0, 0.0]])
    expected = torch.tensor([((1 + 9) / 2 + (0 + 4) / 2) / 2, (16 + 0) / 2])
    assert torch.equal(hidden_loss([student], [teacher], MASK), expected)
    # The mean over layers.
    assert torch.equal(hidden_loss([student, teacher], [teacher, teacher], MASK), expected / 2)


def test_attention_differs_by_its_divergence() -> None:
    teacher, student = torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    teacher[0, 0, 0] = torch.tensor([0.5, 0.5, 0.0])
    student[0, 0, 0] = torch.tensor([0.25, 0.75, 0.0])
    same = torch.tensor([0.125, 0.875, 0.0])
    for head, row in ((0, 1), (1, 0), (1, 1)):
        teacher[0, head, row] = student[0, head, row] = same
    divergence = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    found = attention_loss([student], [teacher], MASK[:1])
    assert torch.allclose(found, torch.tensor([divergence / 4]))  # two heads, two tokens


@pytest.mark.parametrize("loss", [hidden_loss, attention_loss])
def test_padding_has_no_part(loss: Any) -> None:
    shape = (2, 3, 3) if loss is hidden_loss else (2, 2, 3, 3)
    student, teacher = distributions(*shape), distributions(*shape, seed=1)
    before = loss([student], [teacher], MASK)
    assert (before > 0).all()
    for one in (student, teacher):
        changed = one.clone()
        padding = ~MASK if loss is hidden_loss else ~MASK[:, None].expand(2, 2, 3)
        changed[padding] = distributions(*shape, seed=2)[padding]
        pair = ([changed], [teacher]) if one is student else ([student], [changed])
        assert torch.equal(loss(*pair, MASK), before)


@pytest.mark.parametrize("loss", [hidden_loss, attention_loss])
def test_what_is_the_same_differs_by_nothing(loss: Any) -> None:
    shape = (2, 3, 3) if loss is hidden_loss else (2, 2, 3, 3)
    same = distributions(*shape).requires_grad_()
    found = loss([same], [same.detach()], MASK)
    assert torch.allclose(found, torch.zeros(2), atol=1e-6)
    torch.autograd.backward(found.sum())
    assert same.grad is not None
    assert same.grad.isfinite().all()
    assert torch.equal(loss([same], [same.detach()], torch.zeros_like(MASK)), torch.zeros(2))


def test_attention_that_vanishes_has_a_finite_gradient() -> None:
    student = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]], requires_grad=True)
    teacher = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]])
    found = attention_loss([student], [teacher], torch.ones(1, 2))
    torch.autograd.backward(found.sum())
    assert found.isfinite().all()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_gradients_are_those_of_finite_differences() -> None:
    hidden = torch.rand(2, 3, 2, dtype=torch.float32, generator=torch.Generator().manual_seed(3))
    logits = torch.rand(2, 2, 3, 3, generator=torch.Generator().manual_seed(4))
    other, attention = torch.zeros(2, 3, 2), distributions(2, 2, 3, 3)
    cases: list[tuple[Callable[[Tensor], Tensor], Tensor]] = [
        (lambda x: hidden_loss([x], [other], MASK).sum(), hidden),
        (lambda x: attention_loss([x.softmax(dim=-1)], [attention], MASK).sum(), logits),
    ]
    for function, value in cases:
        value.requires_grad_()
        (gradient,) = torch.autograd.grad(function(value), value)
        step = torch.zeros_like(value)
        step.view(-1)[0] = 1e-2
        with torch.no_grad():
            difference = (function(value + step) - function(value - step)) / 2e-2
        assert torch.isclose(gradient.view(-1)[0], difference, rtol=1e-2, atol=1e-4)


def networks(tiny_model: Path) -> tuple[Any, Any]:
    """A teacher of two layers, and a student that has only its second one."""
    torch.manual_seed(1)
    settings: dict[str, Any] = {"attn_implementation": "eager"}
    teacher, _ = load_cross_encoder(str(tiny_model), **settings)
    student, _ = load_cross_encoder(str(tiny_model), **settings)
    student.load_state_dict(teacher.state_dict())
    with torch.no_grad():
        teacher.bert.encoder.layer[0].output.dense.weight.mul_(50)  # so that this layer does something
    for network in (teacher, student):
        read_all_tokens(network)
    student.bert.encoder.layer = torch.nn.ModuleList([student.bert.encoder.layer[1]])
    return teacher, student.eval()


def features() -> dict[str, Tensor]:
    ids = torch.tensor([[2, 7, 3, 9, 3], [2, 8, 3, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "token_type_ids": torch.zeros_like(ids)}


def test_a_student_is_compared_with_the_layers_it_stands_for(tiny_model: Path) -> None:
    teacher, student = networks(tiny_model)
    matching = Matching(teacher, (1,), StudentConfig(layers=1, match_hidden=2.0, match_attention=3.0))
    assert matching.wanted == {"output_hidden_states": True, "output_attentions": True}
    given = features()
    own, other = student(**given, **matching.wanted), teacher(**given, **matching.wanted)
    mask = given["attention_mask"].bool()
    hidden = hidden_loss([own.hidden_states[1]], [other.hidden_states[2]], mask).sum()
    attention = attention_loss([own.attentions[0]], [other.attentions[1]], mask).sum()
    assert hidden > 0
    assert attention > 0
    assert torch.allclose(matching.loss(own, given), 2 * hidden + 3 * attention)
    # A pair more adds its own difference: a batch can be cut at any place.
    halves = [{name: value[i : i + 1] for name, value in given.items()} for i in range(2)]
    parts = [matching.loss(student(**half, **matching.wanted), half) for half in halves]
    assert torch.allclose(torch.stack(parts).sum(), matching.loss(own, given), atol=1e-5)
    # Against itself, layer by layer, there is no difference.
    itself = Matching(teacher, (0, 1), StudentConfig(layers=2, match_hidden=1.0, match_attention=1.0))
    assert itself.loss(other, given).item() == pytest.approx(0, abs=1e-5)


def test_what_goes_into_the_head_is_compared_with_what_does(tiny_model: Path) -> None:
    teacher, _ = networks(tiny_model)
    with pytest.raises(UserError, match="the only layer of the student is not the last one of its teacher"):
        Matching(teacher, (0,), StudentConfig(layers=1, match_hidden=1.0))
    Matching(teacher, (0,), StudentConfig(layers=1, match_attention=1.0))
    both = StudentConfig(layers=2, match_hidden=1.0)
    given = features()
    own = teacher(**given, output_hidden_states=True)
    # The last of two that stand for the first one is left out, the other is the same.
    assert Matching(teacher, (0, 0), both).loss(own, given).item() == pytest.approx(0, abs=1e-6)
    assert Matching(teacher, (1, 1), both).loss(own, given).item() > 1e-5


def families() -> dict[str, Any]:
    """Networks whose layers are made in ways of their own."""
    import transformers

    shape: dict[str, Any] = {
        "vocab_size": 60,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "num_labels": 1,
        "pad_token_id": 0,
    }
    special: dict[str, Any] = {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    return {
        "electra": transformers.ElectraConfig(**shape, embedding_size=16),
        "deberta": transformers.DebertaV2Config(**shape, relative_attention=True, pos_att_type=["c2p", "p2c"]),
        "modernbert": transformers.ModernBertConfig(**shape, **special, local_attention=4),
        "qwen3": transformers.Qwen3Config(**shape, num_key_value_heads=1, head_dim=16),
    }


@pytest.mark.parametrize("family", ["electra", "deberta", "modernbert", "qwen3"])
def test_every_family_tells_its_layers(family: str) -> None:
    from transformers import AutoModelForSequenceClassification

    classifier: Any = AutoModelForSequenceClassification
    torch.manual_seed(0)
    teacher, student = (classifier.from_config(families()[family]) for _ in range(2))
    matching = Matching(teacher, (0, 1, 2), StudentConfig(layers=3, match_hidden=1.0, match_attention=1.0))
    show_attention(student)
    given = {name: value for name, value in features().items() if name != "token_type_ids"}
    alone = matching.loss(teacher(**given, **matching.wanted), given)
    assert alone.item() == pytest.approx(0, abs=1e-5)
    other = matching.loss(student.eval()(**given, **matching.wanted), given)
    assert other.item() > 1e-3
    torch.autograd.backward(other)
    assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


def test_only_the_student_learns(tiny_model: Path) -> None:
    teacher, student = networks(tiny_model)
    matching = Matching(teacher, (1,), StudentConfig(layers=1, match_hidden=1.0))
    assert matching.wanted == {"output_hidden_states": True, "output_attentions": False}
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    before = [parameter.clone() for parameter in teacher.parameters()]
    losses = []
    for _ in range(20):
        loss = matching.loss(student(**features(), **matching.wanted), features())
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(map(torch.equal, before, teacher.parameters()))
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_network_that_does_not_tell_its_attention_is_refused() -> None:
    with pytest.raises(UserError, match=r"Linear does not tell its attention .*: set train\.student\.match_attention"):
        show_attention(torch.nn.Linear(1, 1))
