"""Graphs: the same logits as torch, for any batch and length, and the last layer for the first token alone."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from secondstage.backends.engine import EngineReranker
from secondstage.backends.openvino import OpenvinoSession
from secondstage.backends.record import write_record
from secondstage.backends.session import Features
from secondstage.errors import UserError
from secondstage.pairmodel import CONTRACT
from secondstage.reranker import Reranker
from secondstage.serve.export.graphs import hushed, to_onnx, to_openvino
from secondstage.serve.export.loaded import scores_of_graph

from .families import PAIRS, save_family

ENGINES = ("onnx", "openvino")


def saved(family: str, folder: Path, tiny_model: Path) -> Path:
    """A random model of a family with a head, saved as a bundle holds it."""
    save_family(family, folder / "model", tiny_model, head="classification")
    Reranker.load(folder / "model", precision="fp32").save(folder / "reranker")
    return folder / "reranker"


def opened(reranker: Path, folder: Path, engine: str) -> EngineReranker:
    """A graph, as the bundle serves it, in single precision where it is not quantised."""
    write_record(folder, engine, reranker, {})
    return EngineReranker.open(reranker, folder, engine, precision="fp32")


@pytest.fixture(scope="module")
def bert(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with a head and random weights that are large enough for scores to differ."""
    return saved("bert", tmp_path_factory.mktemp("bert"), tiny_model)


@pytest.fixture(scope="module")
def graphs(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its graphs, a folder for each engine."""
    folder = tmp_path_factory.mktemp("graphs")
    to_onnx(bert, folder / "onnx")
    to_openvino(bert, folder / "openvino")
    return folder


def off(found: Any, expected: Any) -> float:
    return float(np.abs(found - expected).max())


def spread(scores: Any) -> float:
    return float(scores.max() - scores.min())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch_tokens", [1, 64, 8192])
def test_logits_are_those_of_torch_alone_and_in_any_batch(
    bert: Path, graphs: Path, engine: str, batch_tokens: int
) -> None:
    expected = Reranker.load(bert, precision="fp32").score(PAIRS)
    found = opened(bert, graphs / engine, engine)
    found.batch_tokens = batch_tokens
    assert spread(expected) > 0.1
    assert off(found.score(PAIRS), expected) < 1e-4


def test_the_onnx_graph_is_sound_and_says_what_it_takes(graphs: Path) -> None:
    import onnx

    model = onnx.load(graphs / "onnx" / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {path.name for path in (graphs / "onnx").iterdir()} <= {"model.onnx", "engine.json"}

    def shapes(ports: Any) -> dict[str, list[str | int]]:
        return {
            port.name: [axis.dim_param or axis.dim_value for axis in port.type.tensor_type.shape.dim] for port in ports
        }

    free = ["batch", "length"]
    assert shapes(model.graph.input) == {"input_ids": free, "attention_mask": free, "token_type_ids": free}
    assert shapes(model.graph.output) == {"logits": ["batch", 1]}
    assert {node.domain for node in model.graph.node} == {""}
    assert "Gelu" in {node.op_type for node in model.graph.node}


def test_the_last_layer_is_computed_for_the_first_token_alone(graphs: Path) -> None:
    import onnx

    graph = onnx.load(graphs / "onnx" / "model.onnx").graph
    shapes = {port.name: port.type.tensor_type.shape.dim for port in graph.value_info}
    normalised = [shapes[node.output[0]][1] for node in graph.node if node.op_type == "LayerNormalization"]
    # That of the embeddings, two of the first layer, two of the last.
    assert [axis.dim_param or axis.dim_value for axis in normalised] == ["length"] * 3 + [1, 1]


def test_openvino_keeps_attention_and_gelu_as_one_operator_each(graphs: Path) -> None:
    import openvino

    model = openvino.Core().read_model(graphs / "openvino" / "openvino_model.xml")
    kinds = [node.get_type_name() for node in model.get_ops()]
    assert kinds.count("ScaledDotProductAttention") == kinds.count("Gelu") == 2
    assert [port.any_name for port in model.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
    assert str(model.outputs[0].get_partial_shape()) == "[?,1]"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["roberta", "electra", "distilbert", "mpnet", "deberta-v2", "modernbert"])
def test_other_families_become_graphs_too(family: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = saved(family, tmp_path, tiny_model)
    expected = Reranker.load(folder, precision="fp32").score(PAIRS)
    assert spread(expected) > 1e-2
    to_onnx(folder, tmp_path / "onnx")
    to_openvino(folder, tmp_path / "openvino")
    for engine in ENGINES:
        found = opened(folder, tmp_path / engine, engine)
        found.batch_tokens = 96
        assert off(found.score(PAIRS), expected) < 1e-4, engine


def test_an_old_graph_is_read_by_old_runtimes_and_scores_the_same(tiny_model: Path, tmp_path: Path) -> None:
    """ONNX Runtime 1.16 falls over a normalisation without a bias, as ModernBERT's are: zeros are given."""
    import onnx

    folder = saved("modernbert", tmp_path, tiny_model)
    graph = to_onnx(folder, tmp_path / "onnx", old=True)
    model = onnx.load(graph)
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, [(part.domain, part.version) for part in model.opset_import]) == (8, [("", 18)])
    normalised = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    assert normalised
    assert {len(node.input) for node in normalised} == {3}
    expected = Reranker.load(folder, precision="fp32").score(PAIRS)
    assert off(opened(folder, tmp_path / "onnx", "onnx").score(PAIRS), expected) < 1e-4


def test_a_short_text_beside_a_long_one_keeps_its_score_in_openvino(tiny_model: Path, tmp_path: Path) -> None:
    """A ModernBERT whose last two layers see 16 tokens on either side.

    What the first of them makes of padding that sees nothing but padding, the second reads.
    """
    model = tmp_path / "model"
    save_family("modernbert", model, tiny_model, layers=3, head="classification", local_attention=32)
    Reranker.load(model, precision="fp32").save(tmp_path / "reranker")
    to_openvino(tmp_path / "reranker", tmp_path / "openvino")
    found = opened(tmp_path / "reranker", tmp_path / "openvino", "openvino")
    pairs = [("snow", "ice " * 55), ("snow", "ice")]
    expected = Reranker.load(tmp_path / "reranker", precision="fp32").score(pairs)
    assert off(found.logits(found.collate(found.tokenize(pairs), (0, 1))).numpy(), expected) < 1e-4


@pytest.mark.parametrize("broken", [np.nan, 3.0])
def test_parity_is_measured_on_a_short_pair_beside_a_long_one_too(
    bert: Path, graphs: Path, monkeypatch: pytest.MonkeyPatch, broken: float
) -> None:
    """Of many pairs, batched by length, none is padded by half of it: an engine that is off there passes."""
    pairs = [("snow", "ice " * length) for length in range(26, 57) for _ in range(70)]
    logits = OpenvinoSession.logits

    def off_in_padding(self: OpenvinoSession, features: Features) -> npt.NDArray[np.float32]:
        mask = features["attention_mask"]
        return np.where(mask.shape[1] - mask.sum(1) > 16, np.float32(broken), logits(self, features))

    monkeypatch.setattr(OpenvinoSession, "logits", off_in_padding)
    expected = Reranker.load(bert, precision="fp32").score(pairs)
    assert off(opened(bert, graphs / "openvino", "openvino").score(pairs), expected) < 1e-4
    if np.isnan(broken):
        with pytest.raises(UserError, match=r"openvino: a short pair .* together with a long one .* not finite"):
            scores_of_graph(graphs / "openvino", "openvino", bert, pairs)
    else:
        found = scores_of_graph(graphs / "openvino", "openvino", bert, pairs)
        (place,) = np.flatnonzero(np.abs(found - expected) > 1e-3)
        assert place == 0
        assert found[place] == broken


def test_a_graph_that_cannot_be_computed_is_told_in_words(
    bert: Path, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("shape mismatch\nand more")

    monkeypatch.setattr(EngineReranker, "score", fail)
    with pytest.raises(UserError, match=r"onnx: the graph was made, but cannot be computed: shape mismatch\. Export"):
        scores_of_graph(graphs / "onnx", "onnx", bert, PAIRS)


def test_what_exporters_print_is_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with hushed():
        print("a whole graph")
        print("another", file=sys.stderr)
        logging.getLogger("an.exporter").warning("a step")
    assert capfd.readouterr() == ("", "")


def test_a_decoder_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / CONTRACT).write_text(json.dumps({"kind": "yes_no"}))
    for write in (to_onnx, to_openvino):
        with pytest.raises(UserError, match=r"kind 'yes_no': only a cross-encoder .* --to safetensors"):
            write(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_named_with_its_extra(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'secondstage\[onnx\]'"):
        to_onnx(bert, tmp_path)
    with pytest.raises(UserError, match=r"pip install 'secondstage\[openvino\]'"):
        to_openvino(bert, tmp_path)
