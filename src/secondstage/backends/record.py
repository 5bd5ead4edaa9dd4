"""What lies in an engine's folder: a graph, and the record of what it was made from and how well it agrees."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..files import MANIFEST, check_files, file_digest, read_json, write_json

# The folder in a bundle that holds them, each below its own name, those of the first rerankers of a cascade below
# `rerankers/1` and so on; the bundle's manifest does not cover it, as engines come later.
ENGINES_FOLDER = "engines"
RECORD = "engine.json"
# The weights of a reranker, which every one of its graphs holds.
WEIGHTS = "model.safetensors"
# The graph of each engine; torch needs none.
GRAPHS = {
    "onnx": "model.onnx",
    "onnx-int8": "model.onnx",
    "openvino": "openvino_model.xml",
    "openvino-int8": "openvino_model.xml",
}
# What an engine in eight bits may lose of nDCG@10 on ranked lists.
MAY_LOSE = 0.003
# What the manifest of an export says, and the exports whose weights are those of a model folder.
EXPORT = "export"
WITHOUT_GRAPH = ("safetensors", "elasticsearch")


class EngineRecord(NamedTuple):
    """What `engine.json` says.

    Attributes:
        engine: the engine's name, a key of `GRAPHS`.
        weights: SHA-256 of the reranker's weights that the graph was made from.
        files: SHA-256 of every file of the engine, by name.
        parity: how far its scores are from those of torch in single precision, as measured when it was made.
    """

    engine: str
    weights: str
    files: Mapping[str, str]
    parity: Mapping[str, Any]


def engine_digests(bundle: Path, backend: str) -> dict[str, str]:
    """SHA-256 of the record of every engine that may compute, by its path in the bundle: a proof is of what computes.

    Args:
        bundle: its folder; it need not exist.
        backend: as `serve.backend` says; with auto it may be each of them.
    """
    records = sorted((bundle / ENGINES_FOLDER).rglob(f"{'*' if backend == 'auto' else backend}/{RECORD}"))
    return {record.relative_to(bundle).as_posix(): file_digest(record) for record in records}


def write_record(folder: Path, engine: str, reranker: Path, parity: Mapping[str, Any]) -> EngineRecord:
    """Write `engine.json` beside the files of an engine, last of all.

    Args:
        folder: holds the engine's files and nothing else.
        engine: its name.
        reranker: the folder of the reranker that it was made from.
        parity: what was measured.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != RECORD)
    files = {name: file_digest(folder / name) for name in names}
    record = EngineRecord(engine, file_digest(reranker / WEIGHTS), files, dict(parity))
    found = {"engine": record.engine, "from": record.weights, "files": record.files, "parity": record.parity}
    write_json(folder / RECORD, found)
    return record


def read_record(folder: Path, engine: str, reranker: Path) -> EngineRecord:
    """Read the record of an engine, and check it against the files and the reranker.

    Raises:
        UserError: there is none, it is of another engine or another reranker, or a file is missing, was changed, or is
            not named in it.
    """
    found = read_json(folder / RECORD)
    again = f"make it again: secondstage export BUNDLE --to {engine}"
    if not _is_record(found):
        raise UserError(f"{folder / RECORD} is no record of an engine: {again}")
    record = EngineRecord(found["engine"], found["from"], found["files"], found.get("parity") or {})
    if record.engine != engine or GRAPHS.get(engine) not in record.files:
        raise UserError(f"{folder} holds the engine {record.engine!r}, not {engine!r}: {again}")
    check_files(folder, record.files, verify=True)
    # What the graph may name beside it, such as weights of its own, is covered too: a foreign file is none of ours.
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in (*record.files, RECORD))
    if foreign:
        raise UserError(f"{folder} holds files that its record does not name ({', '.join(foreign)}): {again}")
    if record.weights != file_digest(reranker / WEIGHTS):
        raise UserError(f"{folder} was made from other weights than those in {reranker}: {again}")
    return record


def exported_graph(folder: Path) -> tuple[str, Path] | None:
    """The engine of an export, or of an engine's folder, and where its graph is; none where a folder is its weights.

    Raises:
        UserError: it is an export for an engine that is not here, so that nothing can score it.
    """
    if (folder / RECORD).is_file():
        found = read_json(folder / RECORD)
        return (str(found["engine"]) if _is_record(found) else folder.name), folder
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else None
    if not isinstance(manifest, Mapping) or manifest.get("kind") != EXPORT or manifest.get("to") in WITHOUT_GRAPH:
        return None
    to = str(manifest.get("to"))
    if to not in GRAPHS:
        raise UserError(
            f"{folder} is an export to {to}, which only that engine opens: nothing can score it here. An export of the "
            f"same graph can be scored: secondstage export BUNDLE --to onnx --output DIR"
        )
    graph = folder / to.removesuffix("-int8")
    for missing in (path for path in (graph / GRAPHS[to], folder / WEIGHTS) if not path.is_file()):
        raise UserError(f"{folder} is an export to {to}, but {missing} is missing: export it again")
    return to, graph


def _is_record(found: Any) -> bool:
    """Whether it has the record's shape, and names files of its own folder only."""
    if not isinstance(found, Mapping) or not {"engine", "from", "files"} <= set(found):
        return False
    files = found["files"]
    return isinstance(files, Mapping) and all(
        isinstance(name, str) and name == Path(name).name and isinstance(digest, str) for name, digest in files.items()
    )
