"""The record of an engine: what it covers, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from secondstage.backends.record import RECORD, read_record, write_record
from secondstage.errors import UserError
from secondstage.files import file_digest


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """An engine's folder with its record, and the reranker it was made from."""
    reranker, engine = tmp_path / "reranker", tmp_path / "onnx"
    for folder, name, content in ((reranker, "model.safetensors", b"weights"), (engine, "model.onnx", b"graph")):
        folder.mkdir()
        (folder / name).write_bytes(content)
    write_record(engine, "onnx", reranker, {"largest": 1e-6})
    return engine, reranker


def test_a_record_comes_back_with_the_digests_of_both(made: tuple[Path, Path]) -> None:
    engine, reranker = made
    found = read_record(engine, "onnx", reranker)
    assert found.engine == "onnx"
    assert found.weights == file_digest(reranker / "model.safetensors")
    assert found.files == {"model.onnx": file_digest(engine / "model.onnx")}
    assert found.parity == {"largest": 1e-6}
    assert set(json.loads((engine / RECORD).read_text())) == {"engine", "from", "files", "parity"}


def test_what_was_changed_added_or_made_from_another_is_refused(made: tuple[Path, Path]) -> None:
    engine, reranker = made
    with pytest.raises(UserError, match="holds the engine 'onnx', not 'onnx-int8'"):
        read_record(engine, "onnx-int8", reranker)
    (engine / "weights.bin").write_bytes(b"foreign")
    with pytest.raises(UserError, match=r"does not name \(weights.bin\)"):
        read_record(engine, "onnx", reranker)
    (engine / "weights.bin").unlink()
    (reranker / "model.safetensors").write_bytes(b"others")
    with pytest.raises(UserError, match="from other weights"):
        read_record(engine, "onnx", reranker)
    (engine / "model.onnx").write_bytes(b"tampered")
    with pytest.raises(UserError, match=r"was changed since it was made \(model.onnx\)"):
        read_record(engine, "onnx", reranker)
    (engine / "model.onnx").unlink()
    with pytest.raises(UserError, match=r"missing: model\.onnx"):
        read_record(engine, "onnx", reranker)


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"engine": "onnx", "from": "", "files": ["model.onnx"]}',
     '{"engine": "onnx", "from": "", "files": {"../model.onnx": ""}}',
     '{"engine": "onnx", "from": "", "files": {"model.onnx": 1}}'],
)  # fmt: skip
def test_a_broken_record_is_refused(made: tuple[Path, Path], content: str) -> None:
    engine, reranker = made
    (engine / RECORD).write_text(content)
    with pytest.raises(UserError, match="is no record of an engine: make it again"):
        read_record(engine, "onnx", reranker)


def test_no_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        read_record(tmp_path, "onnx", tmp_path)
