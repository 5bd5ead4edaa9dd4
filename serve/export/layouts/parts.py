"""What layouts are made of: copies of the reranker's files, and the words that every README ends with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from secondstage.backends.record import GRAPHS, RECORD
from secondstage.errors import UserError
from secondstage.files import read_json, write_json
from secondstage.pairmodel import CONTRACT
from secondstage.run import Scores

from ..loaded import scores_of_folder

TOKENIZER = "tokenizer.json"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Where Text Embeddings Inference looks for the longest input, before it takes all positions that the network has.
LENGTH = "sentence_bert_config.json"


class Source(NamedTuple):
    """What a layout is made from.

    Attributes:
        name: of the model in its new place: lower-case letters, digits and hyphens.
        reranker: the bundle's folder of it.
        graph: the folder of the graph that the layout holds; none where it needs none.
        parity: what was measured, in words.
        apart: what orders the bundle's results besides, of which the layout has nothing, in words; empty for nothing.
    """

    name: str
    reranker: Path
    graph: Path | None
    parity: str
    apart: str = ""

    @property
    def contract(self) -> Mapping[str, Any]:
        """The score contract."""
        found: Mapping[str, Any] = read_json(self.reranker / CONTRACT)
        return found

    @property
    def max_length(self) -> int:
        """Tokens of a pair."""
        return int(self.contract["max_length"])

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of the network."""
        found: Mapping[str, Any] = read_json(self.reranker / "config.json")
        return found


def check_nothing(source: Source) -> None:
    """Whatever becomes a graph, or is there, can be written."""


def scores_of_weights(source: Source, folder: Path, pairs: Sequence[tuple[str, str]]) -> Scores:
    """`[n]` scores by the weights of a layout that is a folder in Hugging Face's layout, whatever graph is beside."""
    return scores_of_folder(folder, pairs)


def check_tokenizer(source: Source) -> None:
    """Raise `UserError` if the tokenizer has no fast form."""
    tokenizer_of(source)


def copy_reranker(source: Source, folder: Path) -> None:
    """Copy the folder of the reranker, without its card, whose place the layout's own README takes."""
    shutil.copytree(source.reranker, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("README.md"))
    write_contract(source, folder)


def copy_files(source: Source, folder: Path, *names: str) -> None:
    """Copy some of the reranker's files, those that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source.reranker / name).is_file():
            shutil.copy(source.reranker / name, folder / name)


def copy_graph(graph: Path | None, folder: Path) -> None:
    """Copy the files of a graph, without the record of the engine."""
    if graph is None:
        raise ValueError("this layout was given no graph")
    shutil.copytree(graph, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(RECORD))


def write_tokenizer(source: Source, folder: Path, *, special_tokens: bool = True) -> None:
    """Write `tokenizer.json` for readers that know nothing else: pairs are cut as the contract says, none is padded.

    Without `special_tokens` it adds none and cuts nothing, for an engine that puts the pair together by itself.
    """
    found = tokenizer_of(source)
    cut = {"direction": "Right", "max_length": source.max_length, "strategy": "LongestFirst", "stride": 0}
    found |= {"truncation": cut, "padding": None} if special_tokens else {"truncation": None, "padding": None}
    if not special_tokens:
        found["post_processor"] = None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOKENIZER).write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


def tokenizer_of(source: Source) -> dict[str, Any]:
    """The content of `tokenizer.json`; `UserError` if there is none: engines outside Python read no other."""
    if not (source.reranker / TOKENIZER).is_file():
        raise UserError(f"{source.reranker} holds no {TOKENIZER}: its tokenizer has no fast form, which this needs")
    found: dict[str, Any] = read_json(source.reranker / TOKENIZER)
    return found


def inputs_of(graph: Path | None) -> list[str]:
    """The inputs of a graph; a tokenizer may give more of a pair than its network reads."""
    if graph is None:
        raise ValueError("this layout was given no graph")
    if (graph / GRAPHS["onnx"]).is_file():
        import onnx

        named = {port.name for port in onnx.load(str(graph / GRAPHS["onnx"]), load_external_data=False).graph.input}
    else:
        import openvino

        named = {port.any_name for port in openvino.Core().read_model(graph / GRAPHS["openvino"]).inputs}
    return [name for name in INPUTS if name in named]


def write_length(source: Source, folder: Path) -> None:
    """Tell Text Embeddings Inference where pairs are cut. sentence-transformers asks the tokenizer, as ever."""
    write_json(folder / LENGTH, {"max_seq_length": source.max_length})


def write_contract(source: Source, folder: Path) -> None:
    """Write `score.json`: the contract, and how far this export was from it."""
    write_json(folder / CONTRACT, {**source.contract, "parity": source.parity})


def write_readme(source: Source, folder: Path, title: str, text: str) -> None:
    """Write `README.md`: what to do, what the score is, what it is not, and what was measured."""
    calibrated = (
        f" `{CONTRACT}` holds a calibration that was fitted on dev, which the server of secondstage applies."
        if "calibration" in source.contract
        else ""
    )
    apart = f"\n- It is the reranker alone: {source.apart}." if source.apart else ""
    (folder / "README.md").write_text(
        f"""# {title}

{text.strip()}

## The score

- A pair is (query, document); a document is {source.contract.get("document", "title and text")}.
- At most {source.max_length} tokens a pair, special tokens included; the longer of the two is cut first.
- The score is the raw logit of one output: any number, higher is more relevant. Its sigmoid lies in (0, 1) and gives
  the same order, but is no calibrated probability.{calibrated}
- `{CONTRACT}` says the same for machines.{apart}

## Parity

Against the bundle's own scores (torch, single precision): {source.parity}.
""",
        encoding="utf-8",
    )
