"""The two answers of a decoder: what training changes, and what is put back into the whole head."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from secondstage.decoder import DecoderReranker
from secondstage.pairmodel import PairModel
from secondstage.rerankers import load_reranker

from .families import PAIRS, save_family

# A head that is the embeddings, one of its own, and one of its own with a bias.
DECODERS = ("qwen3", "llama", "phi")


def decoder_folder(family: str, folder: Path, tiny_model: Path) -> Path:
    settings: dict[str, Any] = {}
    if family == "phi":
        settings = {"num_key_value_heads": 4, "tie_word_embeddings": False}
    return save_family(family, folder, tiny_model, head="tokens", **settings)


def load(folder: Path, **settings: Any) -> Any:
    return load_reranker(folder, **{"precision": "fp32", **settings})


def tune(scorer: PairModel) -> None:
    """Steps over all weights."""
    optimizer = torch.optim.SGD(scorer.model.parameters(), lr=0.05)
    rows = scorer.tokenize(PAIRS)
    for _ in range(2):
        optimizer.zero_grad()
        loss = (scorer.logits(scorer.collate(rows, range(len(PAIRS)))) - torch.arange(5.0)).square().mean()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(scorer.model.parameters(), 1.0)
        optimizer.step()


@pytest.mark.parametrize("family", DECODERS)
def test_a_tuned_decoder_is_written_as_a_usual_one_with_the_same_scores(
    family: str, tiny_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    base = decoder_folder(family, tmp_path / "base", tiny_model)
    scorer = load(base, kind="yes_no", instruction="find it", max_length=400)
    before = scorer.score(PAIRS)
    tune(scorer)
    scores = scorer.score(PAIRS)
    assert abs(scores - before).max() > 0.01
    scorer.save(tmp_path / "saved")
    assert scorer.score(PAIRS).tolist() == scores.tolist()
    again = load(tmp_path / "saved")
    assert isinstance(again, DecoderReranker)
    assert (again.instruction, again.max_length) == ("find it", 400)
    assert again.score(PAIRS).tolist() == pytest.approx(scores.tolist(), abs=1e-4)

    causal: Any = AutoModelForCausalLM
    old, new = (causal.from_pretrained(folder) for folder in (base, tmp_path / "saved"))
    yes, no = (scorer.tokenizer.convert_tokens_to_ids(answer) for answer in ("yes", "no"))
    tied = family == "qwen3"
    assert (new.lm_head.weight is new.get_input_embeddings().weight) == tied
    # Of a head of its own, the other rows are as they were; the prompt of a usual library gives the same log-odds.
    if not tied:
        others = [i for i in range(new.lm_head.out_features) if i not in (yes, no)]
        assert torch.equal(new.lm_head.weight[others], old.lm_head.weight[others])
        assert not torch.equal(new.lm_head.weight[[yes, no]], old.lm_head.weight[[yes, no]])
    ids = torch.tensor([scorer.tokenize(PAIRS)["input_ids"][0]])
    with torch.inference_mode():
        last = new.eval()(input_ids=ids).logits[0, -1]
    assert float(last[yes] - last[no]) == pytest.approx(scores[0], abs=1e-4)


def test_training_a_tied_head_is_training_the_embeddings(tiny_model: Path, tmp_path: Path) -> None:
    """The gradient of the two rows is that of the whole tied model."""
    from transformers import AutoModelForCausalLM

    base = decoder_folder("qwen3", tmp_path, tiny_model)
    scorer = load(base, kind="yes_no")
    rows = scorer.tokenize(PAIRS[:1])
    scorer.logits(scorer.collate(rows, [0])).sum().backward()
    causal: Any = AutoModelForCausalLM
    whole = causal.from_pretrained(base)
    yes, no = (scorer.tokenizer.convert_tokens_to_ids(answer) for answer in ("yes", "no"))
    last = whole(input_ids=torch.tensor(rows["input_ids"])).logits[0, -1]
    (last[yes] - last[no]).backward()
    found, expected = (network.get_input_embeddings().weight.grad for network in (scorer.model, whole))
    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)
    assert expected[yes].norm() > 0
    assert len(list(scorer.model.parameters())) == len(list(whole.parameters()))


def test_the_head_of_a_copy_is_the_copys(tiny_model: Path, tmp_path: Path) -> None:

    scorer = load(decoder_folder("qwen3", tmp_path, tiny_model), kind="yes_no")
    other = scorer.with_model(copy.deepcopy(scorer.model))
    scores = scorer.score(PAIRS)
    with torch.no_grad():
        other.model.get_input_embeddings().weight.mul_(2)
    assert scorer.score(PAIRS).tolist() == scores.tolist()
    assert other.score(PAIRS).tolist() != scores.tolist()
    assert other.instruction == scorer.instruction
