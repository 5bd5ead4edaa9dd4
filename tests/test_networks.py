"""Networks of every family as cross-encoders: what must not change a score, what is saved, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secondstage import networks
from secondstage.errors import UserError
from secondstage.networks import at_precision, heads_of, load_cross_encoder, load_tokenizer, longest
from secondstage.pairmodel import CONTRACT
from secondstage.pairtext import WORDS
from secondstage.reranker import Reranker

from .families import DECODERS, ENCODERS, FAMILIES, LENGTH, PAIRS, save_family

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Make:
    kept: dict[str, Path] = {}

    def made(family: str, **settings: Any) -> Path:
        key = json.dumps([family, settings])
        if key not in kept:
            kept[key] = save_family(family, tmp_path_factory.mktemp("family"), tiny_model, **settings)
        return kept[key]

    return made


def load(folder: Path, seed: int = 5, **settings: Any) -> Reranker:
    """With a head that tells pairs apart."""
    torch.manual_seed(seed)
    reranker = Reranker.load(folder, **{"precision": "fp32", "max_length": LENGTH, **settings})
    (head,) = heads_of(reranker.model)
    with torch.no_grad():
        head.weight.normal_(0, 1)
    return reranker


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_and_order_do_not_change_a_score(family: str, make: Make) -> None:
    reranker = load(make(family))
    alone = [float(reranker.score([pair])[0]) for pair in PAIRS]
    assert np.ptp(alone) > 0.1
    assert reranker.score(PAIRS).tolist() == pytest.approx(alone, abs=1e-5)
    assert reranker.score(PAIRS[::-1])[::-1].tolist() == pytest.approx(alone, abs=1e-5)
    rows = reranker.tokenize(PAIRS)
    with torch.no_grad():
        assert reranker.logits(reranker.collate(rows, [3, 1])).tolist() == pytest.approx([alone[3], alone[1]], abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_saved_folder_scores_the_same_here_and_in_cross_encoder(family: str, make: Make, tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    reranker = load(make(family), max_length=24 if family in ENCODERS else LENGTH)
    scores = reranker.score(PAIRS)
    reranker.save(tmp_path)
    again = Reranker.load(tmp_path, precision="fp32")
    assert again.max_length == reranker.max_length
    assert again.tokenize(PAIRS)["input_ids"] == reranker.tokenize(PAIRS)["input_ids"]
    assert again.score(PAIRS).tolist() == pytest.approx(scores.tolist(), abs=1e-6)
    other = CrossEncoder(str(tmp_path), device="cpu").predict(list(PAIRS), show_progress_bar=False)
    assert other.tolist() == pytest.approx(scores.tolist(), abs=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_near_and_its_logit_is_whole(
    family: str, precision: Any, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secondstage.compute.has_fp16", lambda: True)
    exact = load(make(family))
    before = {name: buffer.clone() for name, buffer in exact.model.named_buffers()}
    scores = exact.score(PAIRS)
    half = load(make(family))
    half.model = at_precision(half.model, precision)
    (head,) = heads_of(half.model)
    assert head.weight.dtype == torch.float32
    assert torch.equal(head.weight, heads_of(exact.model)[0].weight)
    assert half.model.get_input_embeddings().weight.dtype != torch.float32
    for name, buffer in half.model.named_buffers():
        assert torch.equal(buffer, before[name]), name
    found = half.score(PAIRS)
    assert np.abs(found - scores).max() < 0.1 * max(1.0, float(np.ptp(scores)))
    assert not np.array_equal(found, scores)
    in_bf16 = torch.from_numpy(found).to(torch.bfloat16).float().numpy()
    assert not np.array_equal(in_bf16, found)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_layer_and_the_head(family: str, make: Make) -> None:
    reranker = load(make(family))
    reranker.model.train()
    logits = reranker.logits(reranker.collate(reranker.tokenize(PAIRS), range(len(PAIRS))))
    assert logits.dtype == torch.float32
    logits.square().sum().backward()
    (head,) = heads_of(reranker.model)
    assert head.weight.grad.norm() > 0
    assert reranker.model.get_input_embeddings().weight.grad.norm() > 0
    first = [p for name, p in reranker.model.named_parameters() if ".0." in name and p.ndim == 2]
    assert first
    assert all(p.grad is not None and p.grad.norm() > 0 for p in first)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_each_kind_of_attention_gives_the_same(family: str, attention: str, make: Make) -> None:
    if attention == "sdpa" and family in ("deberta", "deberta-v2", "mpnet"):
        pytest.skip("transformers has eager attention only for these")
    reranker = load(make(family))
    torch.manual_seed(5)
    network, tokenizer = load_cross_encoder(str(make(family)), attn_implementation=attention)
    network.load_state_dict(reranker.model.state_dict())
    other = Reranker(network.eval(), tokenizer, max_length=LENGTH)
    assert other.score(PAIRS).tolist() == pytest.approx(reranker.score(PAIRS).tolist(), abs=1e-4)


# --- decoders with a head


@pytest.mark.parametrize("family", DECODERS)
def test_a_new_head_gets_words_around_the_texts_that_are_never_cut(family: str, make: Make, tmp_path: Path) -> None:
    reranker = load(make(family), max_length=48)
    start = "<s>" if family == "llama" else ""
    rows = reranker.tokenize([("a query", "a document"), ("q", "long " * 99), ("long " * 99, "d")])["input_ids"]
    texts = [reranker.tokenizer.decode(row) for row in rows]
    assert texts[0] == f"{start}{WORDS[0]}a query{WORDS[1]}a document{WORDS[2]}"
    for text, row in zip(texts[1:], rows[1:], strict=True):
        assert len(row) == 48
        assert text.startswith(f"{start}{WORDS[0]}")
        assert WORDS[1] in text
        assert text.endswith(WORDS[2])
    reranker.save(tmp_path)
    assert json.loads((tmp_path / CONTRACT).read_text())["words"] == list(WORDS)


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_last_token_is_read_on_either_side_of_the_padding(family: str, side: str, make: Make) -> None:
    """Against the hidden state of each row alone, without padding."""
    reranker = load(make(family))
    rows = reranker.tokenize(PAIRS)["input_ids"]
    (head,) = heads_of(reranker.model)
    with torch.no_grad():
        expected = [
            float(head(reranker.model.base_model(torch.tensor([row])).last_hidden_state[0, -1])) for row in rows
        ]
    if side == "left" and family == "gpt2":
        return  # its positions are learned and count from the left, which is why rows are padded on the right
    reranker.tokenizer.padding_side = side
    assert reranker.score(PAIRS).tolist() == pytest.approx(expected, abs=1e-5)


def test_a_trained_head_keeps_the_pairs_that_it_was_trained_with(make: Make) -> None:
    """Llama's tokenizer starts each text with a token, so that a pair shows where the document begins."""
    reranker = Reranker.load(make("llama", head="classification"), precision="fp32")
    (row,) = reranker.tokenize([("ab", "c")])["input_ids"]
    assert reranker.tokenizer.decode(row) == "<s>ab<s>c"
    assert "words" not in reranker.contract()
    assert reranker.model.config.pad_token_id == reranker.tokenizer.pad_token_id
    assert reranker.score(PAIRS).shape == (len(PAIRS),)


def test_a_trained_head_whose_pairs_run_together_is_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"runs query and document together: .* asked for yes or no"):
        Reranker.load(make("qwen3", head="classification"))
    # One that was trained here has words around its texts.
    load(make("qwen3")).save(tmp_path)
    reranker = Reranker.load(tmp_path, precision="fp32")
    assert reranker.model.config.pad_token_id == reranker.tokenizer.pad_token_id
    assert reranker.tokenizer.pad_token is not None


@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_a_tokenizer_that_cuts_the_beginning_is_made_to_cut_the_end(
    family: str, tiny_model: Path, tmp_path: Path
) -> None:
    for side in ("left", "right"):
        folder = save_family(family, tmp_path / side, tiny_model)
        told = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(told | {"truncation_side": side}))
    pairs = [("king of chess", "river water bridge flood bank current " * 20), ("snow " * 90, "ice frost")]
    left, right = (load(tmp_path / side, max_length=40) for side in ("left", "right"))
    assert left.tokenize(pairs)["input_ids"] == right.tokenize(pairs)["input_ids"]
    left.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())["truncation_side"] == "right"


# --- limits


def test_positions_that_start_behind_the_padding_are_not_counted(tiny_model: Path, tmp_path: Path) -> None:
    """RoBERTa's first position is padding_idx + 1: of 40 there are 39 with padding at 0, and none is out of range."""
    folder = save_family("roberta", tmp_path, tiny_model, max_position_embeddings=40)
    network, tokenizer = load_cross_encoder(str(folder))
    assert longest(network, tokenizer, None) == 39
    reranker = Reranker.load(folder, precision="fp32")
    assert reranker.score([("snow " * 60, "ice " * 60)]).shape == (1,)


def test_a_limit_that_is_none_is_asked_for(make: Make) -> None:
    """As of an XLNet, whose positions are relative, where the tokenizer says nothing."""
    network, tokenizer = load_cross_encoder(str(make("bert")))
    network.config.max_position_embeddings, tokenizer.model_max_length = -1, int(1e30)
    with pytest.raises(UserError, match=r"neither the bert model nor its tokenizer says .* give max_length"):
        longest(network, tokenizer, None)
    assert longest(network, tokenizer, 20) == 20


def test_rank_one_adapters_are_not_taken_for_the_head(make: Make) -> None:
    network, _ = load_cross_encoder(str(make("bert")))
    network.classifier = torch.nn.Linear(32, 1)
    network.bert.encoder.layer[1].extra = torch.nn.Linear(32, 1)
    assert heads_of(network) == [network.classifier]


# --- what is refused


def test_a_classifier_of_several_labels_is_refused(make: Make) -> None:
    with pytest.raises(UserError, match="is not a single-label classifier: it has 3 outputs"):
        load_cross_encoder(str(make("bert", head="classification", num_labels=3)))


@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_a_tokenizer_with_too_many_tokens_is_refused(family: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = save_family(family, tmp_path, tiny_model, vocab_size=50)
    with pytest.raises(UserError, match=r"a tokenizer that does not fit the model: .* up to \d+, but .* of 50 tokens"):
        load_cross_encoder(str(folder))


@pytest.mark.parametrize("left", [("config.json", "model.safetensors"), ("config.json", "tokenizer_config.json")])
@pytest.mark.parametrize("family", ["bert", "electra", "xlm-roberta", "deberta-v2", "qwen3"])
def test_a_tokenizer_that_transformers_made_up_is_refused(
    family: str, left: tuple[str, str], make: Make, tmp_path: Path
) -> None:
    """A folder without the tokenizer's files: every word would be unknown, and all texts alike."""
    for name in {*left, "model.safetensors"}:
        (tmp_path / name).write_bytes((make(family) / name).read_bytes())
    with pytest.raises(UserError, match=r"knows no words|cannot be loaded"):
        load_tokenizer(str(tmp_path))
    if "tokenizer_config.json" not in left:
        with pytest.raises(UserError, match=r"a tokenizer that knows no words, .* its files .* are missing"):
            load_cross_encoder(str(tmp_path))


MIXING: dict[str, dict[str, Any]] = {
    "big_bird": {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1},
    "canine": {"max_position_embeddings": 256},
    "convbert": {"embedding_size": 32},
    "fnet": {},
    "nystromformer": {"num_landmarks": 8, "segment_means_seq_len": 8},
    "yoso": {},
}


@pytest.mark.parametrize("family", MIXING)
def test_a_family_that_mixes_padding_into_scores_is_refused(
    family: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is shown to do so first."""
    folder = save_family(family, tmp_path, tiny_model, **MIXING[family])
    with pytest.raises(UserError, match=rf"of the family {family}, in which the score of a pair depends on the pairs"):
        load_cross_encoder(str(folder))
    monkeypatch.setattr(networks, "MIX_PADDING", ())
    reranker = load(folder)
    together = reranker.score(PAIRS)  # before a short one, which has BigBird attend to all from then on
    alone = [float(reranker.score([pair])[0]) for pair in PAIRS]
    assert np.abs(together - alone).max() > 1e-3


def test_a_big_bird_that_attends_to_all_is_taken(tiny_model: Path, tmp_path: Path) -> None:
    reranker = load(save_family("big_bird", tmp_path, tiny_model, attention_type="original_full"))
    alone = [float(reranker.score([pair])[0]) for pair in PAIRS]
    assert reranker.score(PAIRS).tolist() == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize(("family", "settings"), [("roberta", {"type_vocab_size": 1}), ("distilbert", {})])
def test_a_model_of_one_segment_gets_no_segment_ids(
    family: str, settings: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    """Its tokenizer, BERT's, gives two."""
    reranker = Reranker.load(save_family(family, tmp_path, tiny_model, **settings), precision="fp32")
    assert set(reranker.tokenize(PAIRS)) == {"input_ids", "attention_mask"}
    assert reranker.score(PAIRS).shape == (len(PAIRS),)
