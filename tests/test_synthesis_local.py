"""Local generators with random weights: what they write is garbage, and is survived, kept and found again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from secondstage.answercache import Reply
from secondstage.errors import UserError
from secondstage.mine.synthesis.local import LocalGenerator
from secondstage.mine.synthesis.parse import parse
from secondstage.mine.synthesis.textmodel import CUE, Prompt, TextModel

SETTINGS: dict[str, Any] = {"max_tokens": 6, "temperature": 1.0, "seed": 3}
WORDS = ["flour", "yeast", "oven", "dough", "crust", "knead", "loaf", "bake", "wheel", "pedal"]
PROMPTS = [
    [{"role": "system", "content": "king queen"}, {"role": "user", "content": " ".join(WORDS[: 1 + i])}]
    for i in range(10)
]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} of {{ m['content'] }} [SEP] {% endfor %}"
    "{% if add_generation_prompt %}the{% endif %}{% if enable_thinking is false %} ice{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE


@pytest.fixture(scope="module")
def folders(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A causal and a seq2seq model of one layer each, with the words of the collection."""
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 1}
    torch.manual_seed(0)
    causal = LlamaConfig(**sizes, intermediate_size=32, num_attention_heads=2, max_position_embeddings=32,
                         pad_token_id=0, bos_token_id=2, eos_token_id=3)  # fmt: skip
    ids: dict[str, Any] = {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 3}
    # Weights this large: else the likeliest token is padding, for ever.
    seq2seq = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, initializer_factor=4.0, **ids
    )
    made = {"causal": tmp_path_factory.mktemp("causal"), "seq2seq": tmp_path_factory.mktemp("seq2seq")}
    LlamaForCausalLM(causal).save_pretrained(made["causal"])
    T5ForConditionalGeneration(seq2seq).save_pretrained(made["seq2seq"])
    for folder in made.values():
        tokenizer.save_pretrained(folder)
    return made


def loaded(folder: Path, prompt: Prompt = "instruction") -> TextModel:
    return TextModel.load(str(folder), prompt=prompt, precision="fp32")


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_prompt_is_answered(folders: dict[str, Path], tmp_path: Path, kind: str, temperature: float) -> None:
    model = loaded(folders[kind])
    before = torch.get_rng_state()
    answers = LocalGenerator(model, tmp_path, batch_size=3).complete(
        PROMPTS, max_tokens=6, temperature=temperature, seed=3, label="synthesize"
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert len(answers) == 10
    assert any(reply.answer for reply in answers)
    for reply in answers:
        assert len(reply.answer.split()) <= 6
        assert 1 <= len(parse(reply.said, 2)) <= 2


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
@pytest.mark.parametrize(("ends", "cut"), [(3, [False, False, True, True]), ([3, 9], [False, False, True, False])])
def test_an_answer_is_cut_off_unless_its_last_token_ends_it(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: str, ends: int | list[int], cut: list[bool]
) -> None:
    model = loaded(folders[kind])
    written = torch.tensor([[7, 3, 0, 0], [7, 8, 8, 3], [7, 8, 8, 8], [7, 8, 8, 9]])  # 0 is padding

    def generate(input_ids: torch.Tensor, **settings: Any) -> torch.Tensor:
        return written if model.seq2seq else torch.cat([input_ids, written], dim=1)

    monkeypatch.setattr(model.model, "generate", generate)
    model.model.generation_config.eos_token_id = ends
    replies = model.answer([[5], [5, 6], [5], [5]], max_tokens=4, temperature=0.0, seed=1)
    assert [reply.cut for reply in replies] == cut


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_a_batch_does_not_change_what_is_likeliest(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """Padding is on the right side: the left of a causal model, where it moves no answer."""
    found = []
    for size in (1, 4, 10):
        generator = LocalGenerator(loaded(folders[kind]), tmp_path / str(size), batch_size=size)
        found.append(generator.complete(PROMPTS, max_tokens=6, temperature=0.0))
    assert found[0] == found[1] == found[2]
    model = loaded(folders[kind]).model
    tokenizer: Any = AutoTokenizer.from_pretrained(folders[kind])
    text = "\n\n".join(m["content"] for m in PROMPTS[4]) + (CUE if kind == "causal" else "")
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    alone = model.generate(ids, max_new_tokens=6, do_sample=False, attention_mask=torch.ones_like(ids))[0]
    cut = alone[ids.shape[1] :] if kind == "causal" else alone
    assert found[0][4].answer == tokenizer.decode(cut, skip_special_tokens=True)


def test_the_seed_decides(folders: dict[str, Path], tmp_path: Path) -> None:
    model = loaded(folders["causal"])
    draws = [
        LocalGenerator(model, tmp_path / str(i), batch_size=4).complete(PROMPTS, **{**SETTINGS, "seed": seed})
        for i, seed in enumerate((3, 3, 4))
    ]
    assert draws[0] == draws[1] != draws[2]


def test_what_was_answered_is_not_asked_again(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(folders["causal"])
    whole = LocalGenerator(model, tmp_path / "whole", batch_size=3).complete(PROMPTS, **SETTINGS)
    sizes: list[int] = []
    answer = model.answer

    def killed(rows: Sequence[list[int]], **settings: Any) -> list[Reply]:
        if len(sizes) == 2:
            raise KeyboardInterrupt
        sizes.append(len(rows))
        return answer(rows, **settings)

    monkeypatch.setattr(model, "answer", killed)
    with pytest.raises(KeyboardInterrupt):
        LocalGenerator(model, tmp_path / "killed", batch_size=3).complete(PROMPTS, **SETTINGS)
    # And the last answer that was written is torn.
    (path,) = (tmp_path / "killed").iterdir()
    path.write_bytes(path.read_bytes() + b'{"key": "12')
    monkeypatch.setattr(model, "answer", answer)
    resumed = LocalGenerator(model, tmp_path / "killed", batch_size=3)
    assert resumed.complete(PROMPTS, **SETTINGS) == whole
    assert resumed.report()["cached"] == 6
    again = LocalGenerator(model, tmp_path / "killed", batch_size=3)
    assert again.complete(PROMPTS * 2, **SETTINGS) == whole * 2
    report = dict(again.report())
    assert report.pop("seconds") >= 0
    assert report == {"prompts": 20, "cached": 20, "too_long": 0, "prompt_tokens": 0, "completion_tokens": 0}


def test_two_models_never_share_answers(folders: dict[str, Path], tmp_path: Path) -> None:
    names = set()
    for folder in folders.values():
        generator = LocalGenerator(loaded(folder), tmp_path)
        generator.complete(PROMPTS[:1], **SETTINGS)
        names.add(generator.cache.name)
    assert {path.name for path in tmp_path.iterdir()} == names
    assert len(names) == 2


def test_tokens_are_counted(folders: dict[str, Path], tmp_path: Path) -> None:
    generator = LocalGenerator(loaded(folders["causal"]), tmp_path, batch_size=2)
    generator.complete(PROMPTS[:3], **SETTINGS)
    lengths = [len(generator.model.tokens(generator.model.as_text(messages), 0)) for messages in PROMPTS[:3]]
    assert generator.report()["prompt_tokens"] == sum(lengths)
    assert 0 < generator.report()["completion_tokens"] <= 18


def test_prompts_that_are_too_long_are_left_out_and_counted(folders: dict[str, Path], tmp_path: Path) -> None:
    model = loaded(folders["causal"])  # reads 32 tokens
    long = [{"role": "user", "content": "dough " * 40}]
    generator = LocalGenerator(model, tmp_path)
    for _ in range(2):
        answers = generator.complete([long, PROMPTS[0]], **SETTINGS)
        assert answers[0] == Reply("")
        assert answers[1].answer
    assert generator.report()["too_long"] == 2
    # The last of several turns may have no other prompt.
    assert generator.complete([[{"role": "user", "content": "oven " * 40}]], **SETTINGS) == [Reply("")]
    with pytest.raises(UserError, match=r"all 1 prompts are longer than the 26 tokens .*passage_words"):
        LocalGenerator(model, tmp_path / "new").complete([long], **SETTINGS)
    # What another mining left in the file is no answer of this one.
    with pytest.raises(UserError, match="all 1 prompts are longer"):
        LocalGenerator(model, tmp_path).complete([long], **SETTINGS)
    again = LocalGenerator(model, tmp_path)
    assert again.complete([PROMPTS[0]], **SETTINGS)[0].answer
    assert again.complete([long], **SETTINGS) == [Reply("")]


def test_a_passage_is_given_alone_and_cut(folders: dict[str, Path]) -> None:
    model = loaded(folders["seq2seq"], "passage")
    assert model.as_text([{"role": "user", "content": "flour of the oven"}]) == "flour of the oven"
    assert model.longest(6) == 64
    assert len(model.tokens("dough " * 100, 64)) == 64
    assert len(loaded(folders["seq2seq"]).tokens("dough " * 100, 64)) == 102


@pytest.mark.parametrize("template", [TEMPLATE, NO_SYSTEM])
def test_a_chat_template_is_filled_in(folders: dict[str, Path], template: str) -> None:
    model = loaded(folders["causal"])
    model.tokenizer.chat_template = template
    shown = "user of king queen\n\nflour" if template == NO_SYSTEM else "system of king queen [SEP] user of flour"
    text = model.as_text(PROMPTS[0])
    assert text == f"{shown} [SEP] the ice"
    # The template has the special tokens.
    assert model.tokens(text, 0) == model.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_tokenizer_without_padding_pads_with_the_end(folders: dict[str, Path], tmp_path: Path) -> None:
    model = loaded(folders["causal"])
    model.tokenizer.pad_token = None
    model.tokenizer.eos_token = "[SEP]"
    model = TextModel(model.model, model.tokenizer)
    assert len(LocalGenerator(model, tmp_path).complete(PROMPTS[:3], **SETTINGS)) == 3


def test_a_model_that_writes_no_text_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UserError, match=r"is an encoder \(bert\), which writes no text"):
        TextModel.load(str(tiny_model))


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no/such/model': no such folder"):
        TextModel.load("no/such/model")
    with pytest.raises(UserError, match="cannot be loaded from"):
        TextModel.load(str(tmp_path))
