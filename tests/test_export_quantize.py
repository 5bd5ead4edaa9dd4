"""Graphs in eight bits: nearly the same scores, weights that are small, and a head that is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from secondstage.compute import has_vnni
from secondstage.reranker import Reranker
from secondstage.serve.export.graphs import to_onnx, to_openvino
from secondstage.serve.export.quantize import quantize_onnx, quantize_openvino

from .families import PAIRS
from .test_export_graphs import off, opened, saved, spread


@pytest.fixture(scope="module")
def bert(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with a head and random weights that are large enough for scores to differ."""
    return saved("bert", tmp_path_factory.mktemp("bert"), tiny_model)


@pytest.fixture(scope="module")
def quantized(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its graphs in eight bits."""
    folder = tmp_path_factory.mktemp("quantized")
    onnx, openvino = to_onnx(bert, folder / "onnx"), to_openvino(bert, folder / "openvino")
    columns = Reranker.load(bert, precision="fp32").tokenize(PAIRS)
    rows = [{name: column[i] for name, column in columns.items()} for i in range(len(PAIRS))]
    quantize_onnx(onnx, folder / "onnx-int8")
    quantize_openvino(openvino, rows, folder / "openvino-int8")
    return folder


@pytest.mark.parametrize("engine", ["onnx-int8", "openvino-int8"])
def test_eight_bits_give_nearly_the_same_scores(bert: Path, quantized: Path, engine: str) -> None:
    expected = Reranker.load(bert, precision="fp32").score(PAIRS)
    found = opened(bert, quantized / engine, engine).score(PAIRS)
    assert 0 < off(found, expected) < 0.1 * spread(expected)


def test_weights_are_in_eight_bits_but_those_of_the_logit(quantized: Path) -> None:
    import onnx
    import openvino

    graph = onnx.load(quantized / "onnx-int8" / "model.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("MatMulInteger") >= 2 * 6
    (last,) = [node for node in graph.node if "logits" in node.output]
    # A Gemm becomes a product and, where there is a bias, a sum.
    end = [last.op_type, *(node.op_type for node in graph.node if last.input[0] in node.output)]
    assert end[:2] == ["MatMul", "Tanh"] or end[:2] == ["Add", "MatMul"]
    per_channel = [value for value in graph.initializer if value.name.endswith("_scale") and len(value.dims) == 1]
    assert per_channel

    model = openvino.Core().read_model(quantized / "openvino-int8" / "openvino_model.xml")
    constants = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    matrices = [node for node in constants if tuple(node.get_output_shape(0)) in ((32, 32), (48, 32), (32, 48))]
    eight = [node for node in matrices if node.get_element_type() in (openvino.Type.i8, openvino.Type.u8)]
    # Five of the first layer, whose second of the feed-forward network is spared; of the last those of its attention,
    # as the rest of it is computed for one token.
    assert len(eight) == 8
    assert (32, 48) not in {tuple(node.get_output_shape(0)) for node in eight}
    products = [node for node in model.get_ops() if node.get_type_name() == "MatMul"]
    head = products[-1].input_value(1).get_node()
    assert head.get_output_element_type(0) == openvino.Type.f32
    assert head.get_type_name() == "Constant"


@pytest.mark.parametrize(("vnni", "largest"), [(False, 64), (True, 127)])
def test_weights_have_seven_bits_where_the_sum_of_two_products_may_overflow(
    quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vnni: bool, largest: int
) -> None:
    import onnx

    monkeypatch.setattr("secondstage.serve.export.quantize.has_vnni", lambda: vnni)
    graph = onnx.load(quantize_onnx(quantized / "onnx" / "model.onnx", tmp_path)).graph
    weights = [
        value for value in graph.initializer if value.data_type == onnx.TensorProto.INT8 and len(value.dims) == 2
    ]
    assert len(weights) >= 2 * 6
    # Each channel has a scale of its own, so the largest weight is at the end of the range.
    assert {int(np.abs(onnx.numpy_helper.to_array(value).astype(int)).max()) for value in weights} == {largest}


def test_a_processor_that_is_not_x86_counts_as_one_that_does_not_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(**capabilities: object) -> bool:
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
        return has_vnni()

    assert found(architecture="aarch64")
    assert found(architecture="x86_64", avx512_vnni=True)
    assert not found(architecture="x86_64", avx2=True)
