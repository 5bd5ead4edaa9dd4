"""Engines against torch, what must not change a score, and what is refused."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage.backends import open_engine
from secondstage.backends.engine import EngineReranker, even_batches
from secondstage.backends.record import GRAPHS, RECORD, write_record
from secondstage.errors import UserError
from secondstage.reranker import Reranker, keep_scores
from secondstage.serve import Pipeline
from secondstage.serve.export.graphs import to_openvino

SINGLE = ("onnx", "openvino")
Pairs = list[tuple[str, str]]


PARITY = {"ndcg_delta": 0.0, "kept": 1.0}


@pytest.fixture
def model(apart_model: Path) -> Path:
    return apart_model


@pytest.fixture
def engines(made_engines: Path) -> Path:
    return made_engines


@pytest.fixture
def pairs(many_pairs: Pairs) -> Pairs:
    return many_pairs


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("threads", [1, 2])
def test_single_precision_gives_the_scores_of_torch(
    model: Path, engines: Path, pairs: Pairs, name: str, threads: int
) -> None:
    expected = Reranker.load(model, precision="fp32").score(pairs)
    assert np.ptp(expected) > 1
    engine = open_engine(model, engines, name, precision="fp32", threads=threads)
    assert engine.score(pairs) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", ["onnx-int8", "openvino-int8"])
def test_eight_bits_rank_nearly_the_same(model: Path, engines: Path, pairs: Pairs, name: str) -> None:
    expected = Reranker.load(model, precision="fp32").score(pairs)
    scores = open_engine(model, engines, name).score(pairs)
    assert not np.array_equal(scores, expected)
    assert np.corrcoef(scores, expected)[0, 1] > 0.9


@pytest.mark.parametrize(("name", "tolerance"), [("onnx", 1e-3), ("openvino", 1e-3), ("onnx-int8", 1e-6)])
def test_a_score_is_the_same_alone_and_in_any_batch(
    model: Path, engines: Path, pairs: Pairs, name: str, tolerance: float
) -> None:
    engine = open_engine(model, engines, name, precision="fp32", threads=2)
    together = engine.score(pairs)
    alone = np.concatenate([engine.score([pair]) for pair in pairs])
    assert alone == pytest.approx(together, abs=tolerance)
    assert engine.score(pairs[::-1])[::-1] == pytest.approx(together, abs=tolerance)


def test_static_eight_bits_hardly_depend_on_the_batch(model: Path, engines: Path, pairs: Pairs) -> None:
    """Scales are fixed; what is rounded otherwise differs in the last bits only."""
    engine = open_engine(model, engines, "openvino-int8", precision="fp32")
    alone = np.concatenate([engine.score([pair]) for pair in pairs])
    together = engine.score(pairs)
    assert alone == pytest.approx(together, abs=0.02 * float(np.ptp(together)))


def test_a_pipeline_computes_with_the_engine_that_is_named(run_folder: Path, pairs: Pairs, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(run_folder / "bundle", bundle)
    torch_scores = Pipeline.load(bundle, "torch").reranker.score(pairs)
    to_openvino(bundle / "reranker", bundle / "engines" / "openvino")
    write_record(bundle / "engines" / "openvino", "openvino", bundle / "reranker", PARITY)
    pipeline = Pipeline.load(bundle, "openvino")
    assert isinstance(pipeline.reranker, EngineReranker)
    assert pipeline.reranker.engine == "openvino"
    assert pipeline.reranker.score(pairs) == pytest.approx(torch_scores, abs=1e-3)


def test_openvino_meets_few_shapes(model: Path, engines: Path) -> None:
    """It keeps kernels for each; no row is wider than the model reads."""
    names = ("input_ids", "token_type_ids", "attention_mask")
    for name, widths in (("openvino", {3: 8, 8: 8, 9: 16, 31: 32, 32: 32}), ("onnx", {3: 3, 9: 9})):
        opened: Any = open_engine(model, engines, name)
        for length, width in widths.items():
            features = opened.collate({key: [[1] * length, [1]] for key in names}, [0, 1])
            assert {values.shape for values in features.values()} == {(2, width)}
            assert features["attention_mask"].sum() == length + 1
        opened.max_length = 13
        assert opened.collate({key: [[1] * 13] for key in names}, [0])["input_ids"].shape == (1, 13)


def test_scores_of_engines_are_kept_apart(model: Path, engines: Path, tmp_path: Path) -> None:
    rerankers = [Reranker.load(model, precision="fp32")]
    rerankers += [EngineReranker.open(model, engines / name, name, precision="fp32") for name in GRAPHS]
    assert len({keep_scores(reranker, tmp_path).path for reranker in rerankers}) == 5


@pytest.mark.parametrize("lengths", [[5], [128] * 30, list(range(1, 90)), [512] * 3])
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_batches_hold_every_row_once_and_keep_all_threads_busy(lengths: list[int], threads: int) -> None:
    batches = list(even_batches(lengths, 2048, threads))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert len(batches) >= min(threads, len(lengths))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= 2048


def test_nothing_to_score_gives_nothing(model: Path, engines: Path) -> None:
    assert open_engine(model, engines, "onnx").score([]).shape == (0,)


# --- what is refused


@pytest.fixture
def copied(engines: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(engines, tmp_path / "engines"))


def test_an_unknown_engine_is_named(model: Path, engines: Path) -> None:
    with pytest.raises(UserError, match="no backend 'tensorrt': choose one of auto, torch, onnx"):
        open_engine(model, engines, "tensorrt")


def test_an_engine_that_was_never_made_says_how(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="secondstage export BUNDLE --to onnx`"):
        open_engine(model, tmp_path, "onnx")


@pytest.mark.parametrize("name", list(GRAPHS))
def test_an_altered_graph_is_refused(model: Path, copied: Path, name: str) -> None:
    graph = copied / name / GRAPHS[name]
    graph.write_bytes(graph.read_bytes() + b" ")
    with pytest.raises(UserError, match="was changed since it was made"):
        open_engine(model, copied, name)


@pytest.mark.parametrize("name", list(GRAPHS))
def test_a_broken_graph_that_its_record_covers_is_one_line(model: Path, copied: Path, name: str) -> None:
    (copied / name / GRAPHS[name]).write_text("this is no graph")
    write_record(copied / name, name, model, PARITY)
    with pytest.raises(UserError, match=r"cannot be opened by \w+: .*Make the engine again"):
        open_engine(model, copied, name)


def test_an_engine_of_other_weights_is_refused(run_folder: Path, engines: Path) -> None:
    with pytest.raises(UserError, match="made from other weights"):
        open_engine(run_folder / "bundle" / "reranker", engines, "onnx")


def test_a_library_that_is_not_installed_says_how(model: Path, engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"openvino, which is not installed: pip install 'secondstage\[openvino\]'"):
        open_engine(model, engines, "openvino")


def test_a_folder_without_a_record_is_refused(model: Path, copied: Path) -> None:
    (copied / "onnx" / RECORD).unlink()
    with pytest.raises(UserError, match=r"engine\.json is missing"):
        open_engine(model, copied, "onnx")


def test_an_engine_has_no_weights_to_save(model: Path, engines: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="save the reranker that it was made from"):
        open_engine(model, engines, "onnx").save(tmp_path)


def test_eight_bits_that_would_overflow_here_are_refused(
    model: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made where products are summed in 32 bits; one that was made without, or says nothing, opens anywhere."""
    folder = copied / "onnx-int8"
    monkeypatch.setattr("secondstage.backends.engine.has_vnni", lambda: False)
    for made, refused in ((True, True), (False, False), (None, False)):
        write_record(folder, "onnx-int8", model, {} if made is None else {"vnni": made})
        if refused:
            with pytest.raises(UserError, match="this one sums them in 16, which overflow: make it again here"):
                EngineReranker.open(model, folder, "onnx-int8")
        else:
            EngineReranker.open(model, folder, "onnx-int8")
