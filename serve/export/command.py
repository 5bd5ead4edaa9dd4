"""The command: make graphs, compare them with the bundle, and only then write what was asked for."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from secondstage.backends import TORCH
from secondstage.backends.record import EXPORT, GRAPHS, RECORD, WEIGHTS, write_record
from secondstage.collection import Collection, beside
from secondstage.compute import Precision, has_vnni, resolve
from secondstage.errors import UserError, in_a_line
from secondstage.files import read_json, read_manifest, refuse_foreign, replacing, write_manifest
from secondstage.pairmodel import read_contract
from secondstage.plan import claimed
from secondstage.progress import say
from secondstage.reranker import Reranker
from secondstage.run import Scores

from ..opening import KIND as BUNDLE
from ..opening import RERANKER, SETTINGS, engines_of, read_bundle, serve_config, stage_folders
from ..pipeline import Pipeline
from .graphs import check_exportable, installed, to_onnx, to_openvino
from .layouts import LAYOUTS, OLD_ONNX, Source
from .layouts.parts import copy_graph
from .loaded import scores_of_folder, scores_of_graph
from .parity import REPORT, TOLERANCE, Parity, ParityError, check, check_written, compare
from .quantize import quantize_onnx, quantize_openvino
from .rankedlists import Lists, Pair, calibration_pairs, lists_of

LIBRARIES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}
MAKERS: dict[str, Callable[[Path, Path], Path]] = {
    "onnx": to_onnx,
    OLD_ONNX: partial(to_onnx, old=True),
    "openvino": to_openvino,
}
# Feed-forward networks of OpenVINO in eight bits that are spared, from the first layer on: the second try spares all.
SPARED = (1, None)
# A decoder has no graph, and sentence-transformers does not open it.
NOT_COMPARED = "the same weights; not compared"
# Pairs that what was written is asked for once more, and the longest besides.
ASKED_AGAIN = 8


class Exports(NamedTuple):
    """What is asked for.

    Attributes:
        bundle: the folder.
        targets: names of `LAYOUTS`.
        output: each target gets a folder of its name in it; none puts engines into the bundle.
        collection: of the queries; none if there is none.
        queries: lists that are compared, at most.
        name: of the reranker's folder in the bundle.
        depth: how many candidates it reads.
    """

    bundle: Path
    targets: tuple[str, ...]
    output: Path | None
    collection: Collection | None
    queries: int
    name: str
    depth: int

    @property
    def reranker(self) -> Path:
        """Its folder."""
        return self.bundle / self.name

    @property
    def apart(self) -> str:
        """What orders the bundle's results besides this reranker."""
        settings = read_json(self.bundle / SETTINGS)
        return apart(float(settings["weight"]), len(settings["cascade"]))

    @property
    def graphs(self) -> list[str]:
        """The engines whose graphs are needed, and `OLD_ONNX`."""
        return sorted({graph for name in self.targets if (graph := LAYOUTS[name].graph)})

    def folder(self, target: str) -> Path:
        """Where a target is written."""
        return (self.output or engines_of(self.bundle, self.reranker)) / target


class Measured(NamedTuple):
    """What exports are held to.

    Attributes:
        parity: by engine, "" the plain folder; none where nothing is compared.
        pairs: a few, which all that is written must score so; none where nothing is compared.
        scores: by torch in single precision.
    """

    parity: Mapping[str, Parity | None]
    pairs: Sequence[Pair]
    scores: Scores


UNMEASURED = Measured({"": None}, (), np.zeros(0, np.float32))


def apart(weight: float, before: int) -> str:
    """What orders a bundle's results besides its reranker, in words; empty if nothing does.

    Args:
        weight: of the reranker in the fused score.
        before: how many rerankers choose what it reads.
    """
    if before:
        return (
            "in the bundle smaller rerankers choose what it reads, and no row of the proof is its order of the first "
            "stage's candidates"
        )
    if weight == 1:
        return ""
    return (
        f"the bundle's pipeline orders by {weight:g} × this score + {1 - weight:g} × the first stage's, each minus its "
        "mean and over its standard deviation among the candidates; in the proof `reranked` is its row, not `pipeline`"
    )


def export_bundle(
    bundle: Path, targets: Sequence[str], output: Path | None, collection: str | None, queries: int = 100
) -> list[str]:
    """Export a bundle's reranker, each export compared with the bundle on ranked lists before anything is written.

    Folders for others are then opened as these do, and asked for a few scores, before they get their names. Engines for
    the bundle itself are made of every cross-encoder of a cascade.

    Args:
        bundle: the folder.
        targets: names of `LAYOUTS`.
        output: the folder that gets one of each target's name; none puts engines into the bundle.
        collection: the folder of the bundle's collection; none means the one beside it, if there is one.
        queries: lists that are compared, at most.

    Returns:
        A line for each target and reranker: where it is, and what was measured.

    Raises:
        UserError: there is no such bundle, collection or target, a library is missing, the reranker has no graph or is
            not one that a target reads, an export is too far off, or a run or an update is writing to the bundle. Then
            nothing is written.
    """
    read_manifest(bundle, BUNDLE)
    # An engine belongs to the weights in the bundle: neither a run nor an update may replace it meanwhile.
    with claimed(bundle.absolute().parent, ()) if output is None else nullcontext():
        return _export(_wanted(bundle, targets, output, collection, queries))


def _export(wanted: Sequence[Exports]) -> list[str]:
    last, lines = wanted[-1], []
    # In torch, as the engine that it names may be what is to be made.
    opened = cache(lambda: Pipeline.load(last.bundle, TORCH))
    with tempfile.TemporaryDirectory(prefix="secondstage-export-") as place, ExitStack() as written:
        # One that is refused leaves nothing of the others either.
        for one in wanted:
            measured = UNMEASURED
            if _kind(one) == Reranker.kind:
                lists = lists_of(opened(), one.collection, one.queries, one.depth)
                measured = _make_graphs(one, opened(), lists, Path(place) / one.name)
            lines += [_write(one, name, measured, Path(place) / one.name, written) for name in one.targets]
    if last.output and last.apart:
        say(f"another engine orders by the reranker alone: {last.apart}")
    return lines


def _wanted(
    bundle: Path, targets: Sequence[str], output: Path | None, collection: str | None, queries: int
) -> list[Exports]:
    """What is asked of each reranker, the last one at the end; all that can be checked is, before any work."""
    if unknown := [name for name in targets if name not in LAYOUTS]:
        raise UserError(f"there is no export {unknown[0]!r}: choose among {', '.join(LAYOUTS)}")
    if queries < 1:
        raise UserError(f"queries is {queries}, must be at least 1")
    if output is None and (others := [name for name in targets if name not in GRAPHS]):
        raise UserError(f"{others[0]} is not an engine that the bundle serves with: say where to with --output DIR")
    manifest, settings = read_bundle(bundle)
    # Others get the last reranker alone.
    folders = [] if output else stage_folders(bundle, manifest, settings)
    asked = bundle, tuple(dict.fromkeys(targets)), output, _collection(bundle, collection), queries
    wanted = [
        Exports(*asked, folder.relative_to(bundle).as_posix(), depth)
        for folder, depth in [*folders, (bundle / RERANKER, int(settings["depth"]))]
    ]
    for one in wanted:
        for name in one.targets:
            _refuse_foreign(one.folder(name), engine=output is None)
    faults = [_fault(one) for one in wanted]
    if all(faults):
        raise UserError(faults[-1])
    for fault in filter(None, faults):
        say(f"torch goes on computing a reranker of the cascade: {fault}")
    for name in wanted[-1].targets if output else ():
        LAYOUTS[name].check(Source(_name(bundle), wanted[-1].reranker, None, ""))
    for name in wanted[-1].graphs:
        installed(*LIBRARIES[name.partition("-")[0]], *(("nncf",) if name == "openvino-int8" else ()))
    return [one for one, fault in zip(wanted, faults, strict=True) if not fault]


def _fault(wanted: Exports) -> str:
    """Why a reranker cannot be exported so; empty if it can."""
    try:
        if wanted.graphs:
            check_exportable(wanted.reranker)
    except UserError as error:
        return str(error)
    if not (wanted.reranker / WEIGHTS).is_file():
        return f"{wanted.reranker} holds no {WEIGHTS}: a model in several files is not exported yet"
    return ""


def _kind(wanted: Exports) -> str:
    return str(read_contract(str(wanted.reranker)).get("kind", Reranker.kind))


def _collection(bundle: Path, given: str | None) -> Collection | None:
    if given is not None:
        return Collection.load(Path(given).expanduser())
    folder = beside(bundle)
    return Collection.load(folder) if folder else None


def _refuse_foreign(folder: Path, *, engine: bool) -> None:
    if not engine:
        refuse_foreign(folder, EXPORT)
    elif folder.exists() and any(folder.iterdir()) and not (folder / RECORD).is_file():
        raise UserError(f"{folder} holds no {RECORD} and is left alone: move it away")


def _make_graphs(wanted: Exports, pipeline: Pipeline, lists: Lists, place: Path) -> Measured:
    """Make every graph below `place`, and compare each, and the plain folder."""
    place.mkdir(parents=True)
    basis = f"{len(lists.first)} queries of {lists.basis}, {len(lists.pairs)} pairs"
    say(f"exports of {wanted.name} are compared on {basis}")
    reference = Reranker.load(wanted.reranker, precision="fp32").score(lists.pairs, label="torch fp32")
    found: dict[str, Parity | None] = {}
    for engine in wanted.graphs:
        found[engine] = _made(wanted, engine, pipeline, lists, reference, place)
    if any(LAYOUTS[name].graph is None for name in wanted.targets):
        scores = scores_of_folder(wanted.reranker, lists.pairs)
        found[""] = _compared("safetensors", lists, reference, scores, int8=False)
    asked = _some(lists.pairs)
    return Measured(found, [lists.pairs[i] for i in asked], reference[asked])


def _some(pairs: Sequence[Pair]) -> list[int]:
    """The places of a few pairs, spread evenly, and of the longest, which is cut."""
    longest = max(range(len(pairs)), key=lambda i: sum(map(len, pairs[i])), default=0)
    return sorted({longest, *range(0, len(pairs), -(-len(pairs) // ASKED_AGAIN))}) if pairs else []


def _made(wanted: Exports, engine: str, pipeline: Pipeline, lists: Lists, reference: Scores, place: Path) -> Parity:
    """Make one graph and compare it; OpenVINO's in eight bits a second time, larger, where the first is too far off."""
    for spared in SPARED[:-1] if engine == "openvino-int8" else ():
        try:
            return _once(wanted, engine, pipeline, lists, reference, place, spared)
        except ParityError as error:
            say(f"{error}\n{engine}: again, with more of it in higher precision")
    return _once(wanted, engine, pipeline, lists, reference, place, SPARED[-1])


def _once(
    wanted: Exports,
    engine: str,
    pipeline: Pipeline,
    lists: Lists,
    reference: Scores,
    place: Path,
    spared: int | None,
) -> Parity:
    say(f"{engine}: making the graph")
    plain, int8 = engine.removesuffix("-int8"), engine.endswith("-int8")
    if not (place / plain).is_dir():
        MAKERS[plain](wanted.reranker, place / plain)
    if engine == "onnx-int8":
        quantize_onnx(place / plain / GRAPHS[plain], place / engine)
    elif engine == "openvino-int8":
        rows = _calibration(wanted, pipeline, lists)
        quantize_openvino(place / plain / GRAPHS[plain], rows, place / engine, spared=spared)
    runs, serves = "onnx" if engine == OLD_ONNX else engine, _precision(wanted.bundle)

    def scored(label: str, precision: Precision) -> Scores:
        folder = place / engine
        return scores_of_graph(folder, runs, wanted.reranker, lists.pairs, label=label, precision=precision)

    served = None
    if engine == "openvino" and serves == "bf16":
        served = _parity(lists, reference, scored(f"{engine} bf16", serves), "int8")
    return _compared(engine, lists, reference, scored(engine, serves if int8 else "fp32"), int8=int8, served=served)


def _precision(bundle: Path) -> Precision:
    """In which the bundle's engines compute what they need not quantise."""
    return resolve(serve_config(read_json(bundle / SETTINGS)).precision)


def _calibration(wanted: Exports, pipeline: Pipeline, lists: Lists) -> list[dict[str, list[int]]]:
    """Tokenised pairs that eight bits are calibrated on."""
    pairs = calibration_pairs(pipeline, wanted.collection, lists)
    say(f"calibrating on {len(pairs)} pairs")
    columns = Reranker.load(wanted.reranker, precision="fp32").tokenize(pairs)
    return [{name: column[i] for name, column in columns.items()} for i in range(len(pairs))]


def _compared(
    name: str, lists: Lists, reference: Scores, scores: Scores, *, int8: bool, served: Parity | None = None
) -> Parity:
    parity = _parity(lists, reference, scores, "int8" if int8 else "fp32")._replace(served=served)
    check(name, parity, int8=int8)
    return parity


def _parity(lists: Lists, reference: Scores, scores: Scores, precision: str) -> Parity:
    return compare(lists.first, reference, scores, lists.qrels, lists.basis, TOLERANCE[precision])


def _write(wanted: Exports, target: str, measured: Measured, place: Path, written: ExitStack) -> str:
    """Write a target's folder, which gets its name when `written` ends well."""
    layout, folder = LAYOUTS[target], wanted.folder(target)
    parity = measured.parity[layout.graph or ""]
    words = parity.sentence if parity else NOT_COMPARED
    graph = place / layout.graph if layout.graph else None
    temporary = written.enter_context(replacing(folder))
    if wanted.output is None and graph:
        copy_graph(graph, temporary)
        measured_here = (parity.to_json() if parity else {}) | ({"vnni": has_vnni()} if target == "onnx-int8" else {})
        write_record(temporary, target, wanted.reranker, measured_here)
    else:
        source = Source(_name(wanted.bundle), wanted.reranker, graph, words, wanted.apart)
        layout.write(source, temporary)
        _ask_again(target, source, temporary, measured)
        write_manifest(temporary, EXPORT, to=target, parity=parity.to_json() if parity else None)
    return f"{target}: {folder}  {words}"


def _ask_again(target: str, source: Source, folder: Path, measured: Measured) -> None:
    """Raise `UserError` if what was written cannot be opened, or gives other scores than the bundle."""
    if not measured.pairs:
        return
    try:
        scores = LAYOUTS[target].scores(source, folder, measured.pairs)
    except Exception as error:  # whatever the library that opens it raises
        raise UserError(
            f"{target} is refused, and nothing was written: what it would be read from cannot be opened: "
            f"{in_a_line(error)}. Way out: {REPORT}"
        ) from error
    check_written(target, measured.scores, scores)


def _name(bundle: Path) -> str:
    """Of the model: that of the bundle's folder, or of the run that it lies in."""
    bundle = bundle.absolute()
    name = bundle.parent.name if bundle.name == "bundle" else bundle.name
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "reranker"
