"""The cache of embeddings: what makes a shard, and who may read it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage import embeddings as embeddings_module
from secondstage.embeddings import Embeddings, encode, shard_key
from secondstage.encoder import Encoder, Vectors

from .children import launch

TEXTS = [f"{a} {b} {c}" for a in ("snow", "rail") for b in ("king", "flour") for c in ("river", "key", "oven")]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings_module, "SHARD", 5)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each call of an encoder is given."""
    calls: list[int] = []
    original = Encoder.encode

    def counted(self: Encoder, texts: Sequence[str], *arguments: Any) -> Vectors:
        calls.append(len(texts))
        return original(self, texts, *arguments)

    monkeypatch.setattr(Encoder, "encode", counted)
    return calls


@pytest.fixture
def encoder(tiny_model: Path) -> Encoder:
    return Encoder.load(str(tiny_model))


def whole(found: Embeddings) -> Vectors:
    return np.concatenate(list(found))


def test_what_is_cached_is_not_encoded_again(encoder: Encoder, tmp_path: Path, encoded: list[int]) -> None:
    first = whole(encode(TEXTS, encoder, folder=tmp_path, total=12))
    assert encoded == [5, 5, 2]
    again = encode(iter(TEXTS), encoder, folder=tmp_path, total=12)
    assert encoded == [5, 5, 2]
    assert isinstance(again[0], np.memmap)
    assert np.array_equal(whole(again), first)
    assert np.array_equal(whole(encode(TEXTS, encoder, total=12)), first)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".npy"] * 3


def test_only_changed_shards_are_encoded(encoder: Encoder, tmp_path: Path, encoded: list[int]) -> None:
    encode(TEXTS, encoder, folder=tmp_path, total=12)
    encoded.clear()
    encode([*TEXTS[:6], "another", *TEXTS[7:], "and one more"], encoder, folder=tmp_path, total=13)
    assert encoded == [5, 3]


def test_two_local_models_never_share_a_shard(encoder: Encoder, tiny_model: Path, tmp_path: Path) -> None:
    import torch

    # The same folder name, of the same architecture: sentence-transformers' miner takes one's vectors for the other's.
    place = tmp_path / "elsewhere" / tiny_model.name
    shutil.copytree(tiny_model, place)
    twin = Encoder.load(str(place))
    with torch.no_grad():
        for weights in twin.model.parameters():
            weights += 0.1 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(1))
    one = whole(encode(TEXTS, encoder, folder=tmp_path / "cache", total=12))
    other = whole(encode(TEXTS, twin, folder=tmp_path / "cache", total=12))
    assert np.array_equal(other, whole(encode(TEXTS, twin, total=12)))
    assert not np.allclose(one, other, atol=1e-3)


def test_the_key_is_of_texts_prompt_and_model(encoder: Encoder, tiny_model: Path) -> None:
    keys = {
        shard_key(["ab", "c"], encoder, ""),
        shard_key(["a", "bc"], encoder, ""),
        shard_key(["c", "ab"], encoder, ""),
        shard_key(["ab", "c"], encoder, "query: "),
        shard_key(["ab", "c"], Encoder.load(str(tiny_model), max_length=9), ""),
    }
    assert len(keys) == 5
    assert shard_key(["ab", "c"], Encoder.load(str(tiny_model), batch_size=2), "") in keys
    assert shard_key(["\ud800"], encoder, "")  # half a character, as JSON may hold


def test_a_kill_loses_one_shard_at_most(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[int]
) -> None:
    save = np.save

    def killed(file: Any, vectors: Vectors) -> None:
        if len(encoded) == 2:
            raise KeyboardInterrupt
        save(file, vectors)

    monkeypatch.setattr(np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        encode(TEXTS, encoder, folder=tmp_path, total=12)
    monkeypatch.setattr(np, "save", save)
    assert len(list(tmp_path.iterdir())) == 1
    encoded.clear()
    found = whole(encode(TEXTS, encoder, folder=tmp_path, total=12))
    assert encoded == [5, 2]
    assert np.array_equal(found, whole(encode(TEXTS, encoder, total=12)))


@pytest.mark.parametrize("cached", [False, True])
def test_rows_are_taken_in_the_order_asked_for(encoder: Encoder, tmp_path: Path, cached: bool) -> None:
    found = encode(TEXTS, encoder, folder=tmp_path if cached else None, total=12)
    rows = [11, 0, 5, 4, 5, 9]
    assert np.array_equal(found.take(rows), whole(found)[rows])
    assert found.take([]).shape == (0, 32)
    assert (found.count, len(found), found.dimension) == (12, 3, 32)


def test_the_bar_counts_every_text(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    class Bar:
        update = counted.append

        def close(self) -> None:
            counted.append(0)

    monkeypatch.setattr(embeddings_module, "bar", lambda **_: Bar())
    for folder in (None, tmp_path, tmp_path):
        encode(TEXTS, encoder, folder=folder, total=12, label="encode")
        assert counted == [5, 5, 2, 0]
        counted.clear()


def test_memory_is_released_after_documents_but_never_in_a_request(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[bool] = []
    monkeypatch.setattr(embeddings_module, "release_memory", lambda: released.append(True))
    encode(TEXTS[:1], encoder, total=1)
    assert released == []
    encode(TEXTS, encoder, folder=tmp_path, total=12)
    assert released == [True]


def test_no_text_gives_no_vector(encoder: Encoder, tmp_path: Path) -> None:
    assert list(encode([], encoder, folder=tmp_path, total=0)) == []


TOGETHER = """
import sys
from pathlib import Path
from secondstage import embeddings
from secondstage.encoder import Encoder
embeddings.SHARD = 5
encoder = Encoder.load(sys.argv[1])
calls, encode = [], Encoder.encode
Encoder.encode = lambda self, texts, *rest: calls.append(len(texts)) or encode(self, texts, *rest)
texts = [f"snow {i}" for i in range(18)]
found = embeddings.encode(texts, encoder, folder=Path(sys.argv[2]), total=18, together=True)
print(sum(calls), sum(len(shard) for shard in found))
"""


@pytest.mark.slow
def test_processes_share_the_work_and_read_the_same(tiny_model: Path, tmp_path: Path) -> None:
    names = []
    for size in (1, 3):
        folder = tmp_path / str(size)
        results = launch(TOGETHER, size, str(tiny_model), str(folder))
        assert all(result.returncode == 0 for result in results), [result.stderr for result in results]
        counts = [tuple(map(int, result.stdout.split())) for result in results]
        assert sum(count for count, _ in counts) == 18
        assert {found for _, found in counts} == {18}
        names.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert names[0] == names[1]
