"""From a reranker's folder to graphs: ONNX by torch's exporter, OpenVINO from the same network."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from secondstage.errors import UserError, in_a_line
from secondstage.files import writing_whole
from secondstage.firsttoken import FAMILIES
from secondstage.models import quiet_transformers, read_config
from secondstage.networks import load_cross_encoder
from secondstage.pairmodel import read_contract
from secondstage.reranker import Reranker

ONNX = "model.onnx"
OPENVINO = "openvino_model.xml"
OUTPUT = "logits"
# The first that has Gelu as one operator, which engines compute faster than the five that it is made of. ONNX Runtime
# reads it from 1.17 on.
OPSET = 20
# What older runtimes read, ONNX Runtime from 1.14 on: the opset, and the format of the file.
OLD_OPSET, OLD_FORMAT = 18, 8
# How configurations name how many tokens one of them sees in some layers.
WINDOWS = ("local_attention", "sliding_window")
# Added to the attention of padding: its weight is 0 after the softmax, and the number stays finite in half precision.
NO_ATTENTION = -30000.0
# Pairs that the network is traced with: of two lengths, so that none of the two dimensions is taken for a constant.
EXAMPLE = [("a query", "a document"), ("another query", "another document that is somewhat longer than the first")]


def to_onnx(reranker: Path, target: Path, *, old: bool = False) -> Path:
    """Write a reranker's graph in single precision as `target/model.onnx`, weights included; returns its path.

    An `old` one is read by runtimes that are years old.

    Inputs are those of the tokenizer, `[batch, length]` of 64-bit integers, both free; the output `logits` is
    `[batch, 1]`. The last layer is computed for the first token alone where the head reads no other (`firsttoken`).

    Raises:
        UserError: the folder holds no cross-encoder with a classification head, onnx is not installed, or the network
            has operations that ONNX has not.
    """
    installed("onnx", "onnxscript")
    import torch

    graph, features = _opened(reranker)
    names = list(features)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    path = target / ONNX
    with writing_whole(path) as temporary, hushed(), _in_words(reranker, "ONNX"):
        torch.onnx.export(
            graph,
            tuple(features.values()),
            temporary,
            input_names=names,
            output_names=[OUTPUT],
            dynamic_shapes={"inputs": tuple({0: batch, 1: length} for _ in names)},
            opset_version=OLD_OPSET if old else OPSET,
            external_data=False,
            verbose=False,
        )
        if old:
            _make_old(temporary)
    return path


def to_openvino(reranker: Path, target: Path) -> Path:
    """Write the same graph as `target/openvino_model.xml` and `.bin`, in single precision; returns the first's path.

    From the network itself, not through ONNX: attention stays one operator, as OpenVINO computes it. Where tokens see a
    window only, it is written out: that operator gives a token of the padding that sees nothing but padding no number,
    and the next layer spreads it over the row.

    Raises:
        UserError: the folder holds no cross-encoder with a classification head, or openvino is not installed.
    """
    installed("openvino")
    import openvino

    graph, features = _opened(reranker, write_out=True)
    free = openvino.PartialShape([-1, -1])
    with hushed(), _in_words(reranker, "OpenVINO"):
        model = openvino.convert_model(
            graph,
            example_input=tuple(features.values()),
            input=[(free, openvino.Type.i64) for _ in features],
        )
    for port, name in zip(model.inputs, features, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
    model.outputs[0].get_tensor().set_names({OUTPUT})
    target.mkdir(parents=True, exist_ok=True)
    # Not the halves that OpenVINO would store by default: scores should be those of the weights.
    openvino.save_model(model, target / OPENVINO, compress_to_fp16=False)
    return target / OPENVINO


def _make_old(path: Path) -> None:
    """Have a file of ONNX say an older version of its format, and give every normalisation a bias.

    The format has all that the graph uses. ONNX Runtime 1.16 takes the process down with it when it optimises a
    normalisation without a bias, as ModernBERT's are.
    """
    import onnx

    model = onnx.load(path)
    model.ir_version = OLD_FORMAT
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "LayerNormalization" and len(node.input) == 2:
            scale = weights[node.input[1]]
            zeros = np.zeros(scale.dims, onnx.helper.tensor_dtype_to_np_dtype(scale.data_type))
            node.input.append(f"{node.name}.zeros")
            model.graph.initializer.append(onnx.numpy_helper.from_array(zeros, node.input[2]))
    onnx.save(model, path)


def check_exportable(reranker: Path) -> None:
    """Raise `UserError` if the folder holds no cross-encoder with a classification head."""
    kind = read_contract(str(reranker)).get("kind", Reranker.kind)
    if kind != Reranker.kind:
        raise UserError(
            f"{reranker} is a reranker of kind {kind!r}: only a cross-encoder with a classification head becomes a "
            "graph. Export --to safetensors, whose folder vLLM serves, or distil it into a "
            "small cross-encoder (distill) and export that"
        )


def _opened(reranker: Path, *, write_out: bool = False) -> tuple[Any, dict[str, Any]]:
    """The module that is traced, and the features of two pairs, in the order of the tokenizer's inputs.

    Attention to a window is not one operator if it is to be written out.
    """
    import torch

    check_exportable(reranker)
    config = read_config(str(reranker))
    windowed = write_out and any(getattr(config, name, None) for name in WINDOWS)
    settings: dict[str, Any] = {"attn_implementation": "eager"} if windowed else {}
    network, tokenizer = load_cross_encoder(str(reranker), config=config, **settings)
    network = network.to("cpu").eval()
    by_family = type(network).__name__ in FAMILIES

    class Graph(torch.nn.Module):
        """The network with its inputs by place and its logits alone."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *inputs: Any) -> Any:
            given = dict(zip(names, inputs, strict=True))
            if by_family:
                # One row for all tokens: these layers add it to their attention as it is, and it is not written out
                # for every pair of tokens. Other families make masks of their own from the plain one.
                mask = given["attention_mask"][:, None, None, :]
                given["attention_mask"] = (1.0 - mask.to(torch.float32)) * NO_ATTENTION
            return self.network(**given).logits

    encoded = tokenizer([query for query, _ in EXAMPLE], [document for _, document in EXAMPLE])
    padded = tokenizer.pad(encoded, return_tensors="pt")
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in padded]
    return Graph(), {name: padded[name] for name in names}


def installed(*libraries: str) -> None:
    """Raise `UserError` if a library is not there, with the command that installs it."""
    import importlib.util

    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if missing:
        extra = "openvino" if missing[0] in ("openvino", "nncf") else "onnx"
        raise UserError(f"{' and '.join(missing)} not installed: pip install 'secondstage[{extra}]'")


@contextlib.contextmanager
def _in_words(reranker: Path, form: str) -> Iterator[None]:
    """Turn what an exporter raises into one line: it lists the whole graph otherwise."""
    try:
        yield
    except (OSError, UserError):
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise UserError(
            f"{reranker} cannot be written as {form}: {in_a_line(cause)}. Export --to safetensors instead, which needs "
            "no graph"
        ) from error


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Keep exporters from reporting on their own insides: warnings, logs, printed steps."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with quiet_transformers(), warnings.catch_warnings(), contextlib.ExitStack() as redirected:
            warnings.simplefilter("ignore")
            for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr):
                redirected.enter_context(redirect(io.StringIO()))
            yield
    finally:
        logging.disable(level)
