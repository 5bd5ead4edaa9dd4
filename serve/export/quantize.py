"""Graphs in eight bits: OpenVINO by statistics of real pairs, ONNX Runtime by those of each batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from secondstage.compute import has_vnni
from secondstage.files import writing_whole

from .graphs import ONNX, OPENVINO, hushed, installed

# A row of token ids, and of what goes with them, by the name of the input.
Row = Mapping[str, Sequence[int]]
# How far SmoothQuant (Xiao et al. 2023) moves outliers of activations into the weights, from 0 to 1.
SMOOTHING = 0.95


def quantize_openvino(xml: Path, calibration_rows: Sequence[Row], target: Path, *, spared: int | None = 1) -> Path:
    """Write a statically quantised copy of an OpenVINO graph to `target/openvino_model.xml` and `.bin`.

    Ranges of activations are those that `calibration_rows` have, so nothing is measured when it serves (NNCF
    post-training quantisation with SmoothQuant and bias correction). What is computed for one token of a pair, the
    head and most of the last layer (`firsttoken`), keeps its precision: it costs nothing, and ranks are decided there.

    Args:
        xml: the graph in single precision.
        calibration_rows: tokenised pairs of real queries and candidates, not padded.
        target: a folder.
        spared: the second matrices of so many feed-forward networks keep their precision, from the first layer on; none
            means those of all layers. Their inputs have the largest outliers, which SmoothQuant cannot move: on
            `feedbackqa` the first layer's alone made a third of the error, and costs a twentieth of the speed.

    Raises:
        UserError: openvino or nncf is not installed.
    """
    installed("openvino", "nncf")
    import openvino

    with hushed():
        import nncf

        model = openvino.Core().read_model(xml)
        rows = [{name: np.array([values], np.int64) for name, values in row.items()} for row in calibration_rows]
        quantized = nncf.quantize(
            model,
            nncf.Dataset(rows),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(rows),
            ignored_scope=nncf.IgnoredScope(names=_kept(model, spared), validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=SMOOTHING),
            ),
        )
        target.mkdir(parents=True, exist_ok=True)
        openvino.save_model(quantized, target / OPENVINO, compress_to_fp16=False)
    return target / OPENVINO


def quantize_onnx(onnx: Path, target: Path) -> Path:
    """Write a dynamically quantised copy of an ONNX graph to `target/model.onnx`.

    Weights have a scale for each channel; those of activations are taken from each batch, which needs no calibration.
    Processors that multiply eight bits without VNNI add pairs of products in 16 bits, which overflow: there weights
    have seven bits. The layer that gives the logit keeps its precision.

    Raises:
        UserError: onnx or onnxruntime is not installed.
    """
    installed("onnx", "onnxruntime")
    import onnx as onnx_library

    with hushed():
        from onnxruntime.quantization import QuantType, quantize_dynamic

        graph = onnx_library.load(onnx).graph
        # A Gemm is taken apart first, and its product gets this name.
        last = [
            node.name + end for node in graph.node if graph.output[0].name in node.output for end in ("", "_MatMul")
        ]
        with writing_whole(target / ONNX) as temporary:
            quantize_dynamic(
                onnx,
                temporary,
                per_channel=True,
                reduce_range=not has_vnni(),
                weight_type=QuantType.QInt8,
                nodes_to_exclude=last,
                # The shapes of what is between operators are known well enough from the exporter.
                extra_options={"DefaultTensorType": onnx_library.TensorProto.FLOAT},
            )
    return target / ONNX


def _kept(model: Any, spared: int | None) -> list[str]:
    """The names of the matrix products that keep their precision."""
    alone = _of_one_token(model)
    narrowing = [
        node.get_friendly_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() == "MatMul" and _narrows(node) and node.get_friendly_name() not in alone
    ]
    return alone + narrowing[:spared]


def _narrows(product: Any) -> bool:
    """Whether a product with a matrix of weights gives fewer numbers a token than it takes."""
    weights = product.input_value(1).get_partial_shape()
    if weights.is_dynamic or len(weights) != 2:
        return False
    takes, gives = weights.to_shape()
    if product.get_attributes()["transpose_b"]:
        takes, gives = gives, takes
    return bool(takes > gives)


def _of_one_token(model: Any) -> list[str]:
    """The names of the matrix products that are computed for one token of a pair, walking back from the logit."""
    names, todo = [], [model.outputs[0].get_node()]
    seen: set[str] = set()
    while todo:
        node = todo.pop()
        name = node.get_friendly_name()
        if name in seen or not _is_of_one_token(node.get_output_partial_shape(0)):
            continue
        seen.add(name)
        if node.get_type_name() == "MatMul":
            names.append(name)
        todo += [port.get_source_output().get_node() for port in node.inputs()]
    return names


def _is_of_one_token(shape: Any) -> bool:
    """Of `[pairs, width]`, `[pairs, 1, width]` or `[pairs, heads, 1, width]`; weights have no pairs, and no inputs."""
    if shape.rank.is_dynamic:
        return False
    rank = shape.rank.get_length()
    return rank <= 2 or bool(shape[rank - 2].get_max_length() == 1)
