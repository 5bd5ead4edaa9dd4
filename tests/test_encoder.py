"""The encoder against sentence-transformers' own `encode`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage import encoder as encoder_module
from secondstage.encoder import Encoder, pack
from secondstage.files import folder_digests

WORDS = ["flour", "yeast", "oven", "snow", "frost", "rail", "ticket", "king", "queen", "rook", "water", "river"]
TEXTS = [" ".join(WORDS[(i * j) % len(WORDS)] for j in range(1 + (i * 7) % 40)) for i in range(50)] + [
    "",
    "?",
    "雪 frost",
]


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Single precision on any processor."""
    monkeypatch.setattr(encoder_module, "resolve", lambda _: "fp32")


def reference(model: Any, prompt: str | None = None) -> Any:
    return model.encode(TEXTS, prompt=prompt, normalize_embeddings=True, show_progress_bar=False, batch_size=7)


@pytest.mark.parametrize("prompt", ["", "snow of the "])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_vectors_are_the_librarys(tiny_model: Path, prompt: str, batch_size: int) -> None:
    encoder = Encoder.load(str(tiny_model), batch_size=batch_size)
    expected = reference(encoder.model, prompt or None)
    found = encoder.encode(TEXTS, prompt)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5
    assert encoder.encode([]).shape == (0, 32)


def test_vectors_are_the_librarys_with_modules_of_many_kinds(tiny_model: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    body = Transformer(str(tiny_model))
    pooling = Pooling(32, "cls", include_prompt=False)
    model = SentenceTransformer(modules=[body, pooling, Dense(32, 16), Normalize()], device="cpu")
    model.save(str(tmp_path / "model"), create_model_card=False)
    encoder = Encoder.load(str(tmp_path / "model"))
    assert encoder.dimension == 16
    assert np.abs(encoder.encode(TEXTS, "the ") - reference(encoder.model, "the ")).max() < 1e-5


def test_vectors_are_the_librarys_where_there_is_no_attention(tmp_path: Path, tiny_model: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    encoder = Encoder(model)
    expected = reference(model)
    assert np.abs(encoder.encode(TEXTS) - expected).max() < 1e-5
    assert len(encoder.digest) == 64


def test_padding_on_the_left_is_cut_on_the_left(tiny_model: Path) -> None:
    encoder = Encoder.load(str(tiny_model), batch_size=3)
    expected = encoder.encode(TEXTS)
    encoder.model.tokenizer.padding_side = "left"
    # Absolute positions shift under padding on the left: the library's vectors, batch for batch, are the oracle.
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    assert np.abs(alone - expected).max() < 1e-5


def test_half_precision_is_close(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "resolve", lambda _: "bf16")
    encoder = Encoder.load(str(tiny_model))
    expected = reference(encoder.model)
    found = encoder.encode(TEXTS)
    assert (found * expected).sum(axis=1).min() > 0.999
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    assert not np.array_equal(found, expected)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("budget", [1, 10, 64, 10_000])
def test_batches_hold_every_token_once_within_the_budget(left: bool, budget: int) -> None:
    lengths = np.array([3, 9, 1, 1, 7, 20, 2, 9])
    mask = (np.arange(20) < lengths[:, None]).astype(np.int64)
    mask = mask[:, ::-1] if left else mask
    batches = list(pack(mask, budget))
    assert sorted(row for rows, _ in batches for row in rows.tolist()) == list(range(8))
    for rows, columns in batches:
        assert mask[rows][:, columns].sum() == lengths[rows].sum()
        width = mask[rows][:, columns].shape[1]
        assert width == min(20, -(-lengths[rows].max() // 8) * 8)
        assert len(rows) * width <= budget or len(rows) == 1


def test_the_digest_is_of_the_weights_not_of_the_name(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    digest = Encoder.load(str(tiny_model)).digest
    shutil.copytree(tiny_model, tmp_path / "copy")
    assert Encoder.load(str(tmp_path / "copy")).digest == digest
    assert Encoder.load(str(tiny_model), max_length=16).digest != digest
    other = Encoder.load(str(tiny_model))
    with torch.no_grad():
        next(other.model.parameters()).view(-1)[0] += 1
    assert other.digest != digest


def test_the_digest_is_of_the_tokenizer_and_the_precision_too(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = Encoder.load(str(tiny_model)).digest
    shutil.copytree(tiny_model, tmp_path / "copy")
    text = (tmp_path / "copy" / "tokenizer.json").read_text()
    assert text.count('"flour"') == 1
    (tmp_path / "copy" / "tokenizer.json").write_text(text.replace('"flour"', '"floor"'))
    assert Encoder.load(str(tmp_path / "copy")).digest != digest
    monkeypatch.setattr(encoder_module, "resolve", lambda _: "bf16")
    assert Encoder.load(str(tiny_model)).digest != digest


def test_neither_what_is_saved_nor_the_digest_tells_whether_it_has_encoded(tiny_model: Path, tmp_path: Path) -> None:
    """A fast tokenizer keeps how it cut and padded last."""
    from transformers import AutoTokenizer

    padded: Any = AutoTokenizer.from_pretrained(tiny_model)
    padded.backend_tokenizer.enable_truncation(8)
    padded.backend_tokenizer.enable_padding(length=8)
    shutil.copytree(tiny_model, tmp_path / "padded")
    padded.save_pretrained(tmp_path / "padded")  # as all-MiniLM-L6-v2 was published
    for place in (tiny_model, tmp_path / "padded"):
        digests, saved = [], []
        for texts in ([], TEXTS):
            encoder = Encoder.load(str(place))
            encoder.encode(texts)
            digests.append(encoder.digest)
            encoder.save(folder := tmp_path / f"{place.name}-{len(texts)}")
            saved.append(folder_digests(folder))
        assert digests[0] == digests[1]
        assert saved[0] == saved[1]
