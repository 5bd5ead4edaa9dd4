"""Students of every family: which layers they have, that these are the teacher's, and that they can be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from secondstage.decoder import load_decoder
from secondstage.errors import UserError
from secondstage.networks import heads_of, load_cross_encoder
from secondstage.reranker import Reranker
from secondstage.train.layers import layers_of
from secondstage.train.student import Keep, cut, kept_layers

from .families import FAMILIES, LENGTH, PAIRS, save_family


@pytest.mark.parametrize(
    ("count", "layers", "keep", "expected"),
    [
        (6, 3, "every", (1, 3, 5)),
        (6, 2, "every", (2, 5)),
        (6, 4, "every", (1, 2, 4, 5)),
        (6, 1, "every", (5,)),
        (22, 4, "every", (5, 10, 16, 21)),
        (6, 2, "first", (0, 1)),
        (6, 2, "last", (4, 5)),
        (6, 6, "every", (0, 1, 2, 3, 4, 5)),
        (6, 6, "last", (0, 1, 2, 3, 4, 5)),
    ],
)
def test_kept_layers_by_hand(count: int, layers: int, keep: Keep, expected: tuple[int, ...]) -> None:
    assert kept_layers(count, layers, keep) == expected


def test_every_split_is_ascending_and_ends_with_the_last() -> None:
    for count in range(1, 30):
        for layers in range(1, count + 1):
            kept = kept_layers(count, layers, "every")
            assert len(set(kept)) == layers
            assert list(kept) == sorted(kept)
            assert kept[-1] == count - 1
            gaps = [b - a for a, b in zip((-1, *kept), kept, strict=False)]
            assert max(gaps) - min(gaps) <= 1


def test_more_layers_than_there_are_are_refused(tiny_model: Path) -> None:
    network, _ = load_cross_encoder(str(tiny_model))
    with pytest.raises(UserError, match=r"train.student.layers is 3, but the model has 2 layers"):
        cut(network, 3, "first")


def parameters(module: Any) -> dict[str, Any]:
    return dict(module.named_parameters())


@pytest.mark.parametrize("keep", ["every", "first", "last"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_has_the_teachers_layers_embeddings_and_head(
    family: str, keep: Keep, tiny_model: Path, tmp_path: Path
) -> None:
    teacher, tokenizer = load_cross_encoder(str(save_family(family, tmp_path / "teacher", tiny_model, layers=6)))
    state = torch.get_rng_state()
    student, stands_for = cut(teacher, 2, keep)
    assert torch.equal(torch.get_rng_state(), state)
    assert stands_for == kept_layers(6, 2, keep)
    own, theirs = layers_of(student), layers_of(teacher)
    assert len(own.layers) == student.config.num_hidden_layers == 2
    assert len(theirs.layers) == teacher.config.num_hidden_layers == 6
    for layer, index in zip(own.layers, stands_for, strict=True):
        other = parameters(theirs.layers[index])
        assert all(torch.equal(value, other[name]) for name, value in parameters(layer).items())
        assert [name for name in other if name not in parameters(layer)] in ([], ["attn_norm.weight"])
    rest = {name: value for name, value in parameters(student).items() if not name.startswith(own.path)}
    assert rest.keys() == {name for name in parameters(teacher) if not name.startswith(theirs.path)}
    assert all(torch.equal(value, parameters(teacher)[name]) for name, value in rest.items())
    assert student.config._attn_implementation == teacher.config._attn_implementation
    scorer = Reranker(student.eval(), tokenizer, max_length=LENGTH)
    scorer.save(tmp_path / "student")
    again = Reranker.load(tmp_path / "student", precision="fp32")
    assert again.score(PAIRS).tolist() == pytest.approx(scorer.score(PAIRS).tolist(), abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_of_all_layers_scores_as_its_teacher_and_shares_no_weights(
    family: str, tiny_model: Path, tmp_path: Path
) -> None:
    teacher, tokenizer = load_cross_encoder(str(save_family(family, tmp_path, tiny_model, layers=3)))
    student, _ = cut(teacher, 3, "every")
    scores = [Reranker(network.eval(), tokenizer, max_length=LENGTH).score(PAIRS) for network in (teacher, student)]
    assert scores[0].tolist() == pytest.approx(scores[1].tolist(), abs=1e-6)
    (head,) = heads_of(student)
    with torch.no_grad():
        head.weight.zero_()
        student.get_input_embeddings().weight.zero_()
    again = Reranker(teacher, tokenizer, max_length=LENGTH).score(PAIRS)
    assert again.tolist() == scores[0].tolist()


def test_modernberts_pattern_of_attention_goes_with_the_layers(tiny_model: Path, tmp_path: Path) -> None:
    teacher, _ = load_cross_encoder(str(save_family("modernbert", tmp_path, tiny_model, layers=6)))
    kinds = teacher.config.layer_types
    assert len(set(kinds)) == 2
    student, stands_for = cut(teacher, 4, "every")
    assert student.config.layer_types == [kinds[i] for i in stands_for]
    assert [layer.attention_type for layer in layers_of(student).layers] == student.config.layer_types


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_decoder_keeps_its_whole_head(family: str, tiny_model: Path, tmp_path: Path) -> None:
    teacher, _ = load_decoder(str(save_family(family, tmp_path, tiny_model, layers=3, head="tokens")))
    student, _ = cut(teacher, 1, "last")
    assert torch.equal(student.lm_head.weight, teacher.lm_head.weight)
    tied = family == "qwen3"
    assert (student.lm_head.weight is student.get_input_embeddings().weight) == tied
