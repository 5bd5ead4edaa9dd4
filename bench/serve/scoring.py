"""Pairs a second of every engine, against sentence-transformers and ONNX Runtime as they come, in one run.

    python -m bench.serve.scoring BUNDLE [--collection COLLECTION] [--output runs/bench-serve] [--pairs 100]

Peers and engines score the same pairs of test queries and their candidates, in turn, tokenising included; medians of
the ratios of rounds. Engines that the bundle lacks are exported into it. The peers: `CrossEncoder.predict` in single
precision, and loaded in bf16 where the processor has it; ONNX Runtime on a dynamically quantised graph, in batches of
64 in the order given, as fastembed does. That graph is ours, which computes the last layer for the first token alone:
faster than theirs.

nDCG@10 is that of each engine's order on ranked lists of test queries; `ndcg_delta` is what it gains over torch in
single precision. An engine ranks without loss if that is 0.001 at most. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.train.summary import ratio
from secondstage.backends import available_threads, open_engine
from secondstage.backends.record import ENGINES_FOLDER, GRAPHS, MAY_LOSE, write_record
from secondstage.collection import Collection, Qrels
from secondstage.compute import has_bf16
from secondstage.firststage import search_run
from secondstage.measures import evaluate, mean
from secondstage.networks import load_cross_encoder
from secondstage.pairmodel import PairModel
from secondstage.progress import say
from secondstage.reranker import Reranker
from secondstage.run import Run, Scores
from secondstage.serve import Pipeline
from secondstage.serve.export.command import export_bundle
from secondstage.serve.export.graphs import to_openvino
from secondstage.serve.export.quantize import quantize_openvino
from secondstage.splits import choose_answerable

from .peak import measure_peak, work_of

MEASURE = "nDCG@10"
ST, ST_BF16, ORT = "sentence-transformers", "sentence-transformers bf16", "onnxruntime int8"
TORCH, STUDENT = "torch", "student3 openvino-int8"
# What ranks without loss may lose of nDCG@10.
LOSSLESS = 0.001
CALIBRATING = 100
SEED = 13
Pairs = list[tuple[str, str]]
Score = Callable[[Pairs], Scores]


class ScoringOptions(NamedTuple):
    """What is measured.

    Attributes:
        bundle: it gains the engines that it lacks.
        collection: stored; of the queries.
        output: where the student is made.
        pairs: that are scored against the clock.
        rounds: of turns, after one that warms up.
        queries: test queries of the ranked lists.
        depth: candidates of each.
    """

    bundle: Path
    collection: Path
    output: Path
    pairs: int = 100
    rounds: int = 7
    queries: int = 100
    depth: int = 30


class Lists(NamedTuple):
    """Ranked lists of test queries, all their pairs, and the pairs that are timed."""

    run: Run
    qrels: Qrels
    pairs: Pairs
    timed: Pairs


def lists_of(options: ScoringOptions) -> Lists:
    """The candidates of test queries, as the bundle's first stage finds them; pairs to time are drawn among them."""
    collection = Collection.load(options.collection)
    pipeline = Pipeline.load(options.bundle, TORCH)
    qrels = choose_answerable(collection.qrels["test"], options.queries, SEED)
    queries = {query_id: collection.queries[query_id] for query_id in qrels}
    run = search_run(pipeline.first_stage, pipeline.documents.ids, queries, options.depth)
    pairs = [
        (queries[query_id], content)
        for query_id, ranking in run.items()
        for content in pipeline.documents.contents(ranking.doc_ids)
    ]
    places = np.random.default_rng(SEED).permutation(len(pairs))[: options.pairs]
    return Lists(run, qrels, pairs, [pairs[place] for place in places])


def peers(reranker: Path, graph: Path) -> dict[str, Score]:
    """Those that we are measured against."""
    import onnxruntime
    import torch
    from sentence_transformers import CrossEncoder

    encoders = {ST: CrossEncoder(str(reranker), device="cpu")}
    if has_bf16():  # elsewhere a batch would take minutes
        encoders[ST_BF16] = CrossEncoder(str(reranker), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_threads()
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    names = {port.name for port in session.get_inputs()}
    tokenizer = Reranker.load(reranker, precision="fp32").tokenizer

    def batches(pairs: Pairs) -> Scores:
        found = []
        for start in range(0, len(pairs), 64):
            queries, documents = zip(*pairs[start : start + 64], strict=True)
            given = tokenizer(list(queries), list(documents), padding=True, truncation=True, return_tensors="np")
            logits = session.run(None, {k: v.astype(np.int64) for k, v in given.items() if k in names})[0]
            found.append(np.asarray(logits)[:, 0])
        return np.concatenate(found)

    def predicted(model: Any) -> Score:
        return lambda pairs: np.asarray(model.predict(pairs, show_progress_bar=False), np.float32)

    return {name: predicted(encoder) for name, encoder in encoders.items()} | {ORT: batches}


def engines_of(options: ScoringOptions, calibrating: Pairs) -> dict[str, PairModel]:
    """Ours: torch, every engine, and a student of three layers, cut and not trained: its speed alone counts."""
    missing = [name for name in GRAPHS if not (options.bundle / ENGINES_FOLDER / name).is_dir()]
    if missing:
        say("\n".join(export_bundle(options.bundle, missing, None, str(options.collection))))
    folder, engines = options.bundle / "reranker", options.bundle / ENGINES_FOLDER
    found = {name: open_engine(folder, engines, name) for name in (TORCH, *GRAPHS)}
    student, int8 = options.output / "student3", "openvino-int8"
    if not (student / "engines" / int8 / "engine.json").is_file():
        _make_student(folder, student, int8, calibrating)
    return found | {STUDENT: open_engine(student / "reranker", student / "engines", int8)}


def _make_student(reranker: Path, student: Path, name: str, calibrating: Pairs) -> None:
    from secondstage.train.student import cut

    made = Reranker.load(reranker, precision="fp32")
    network, _ = load_cross_encoder(str(reranker))
    made.with_model(cut(network, 3, "every").network.eval()).save(student / "reranker")
    graph = to_openvino(student / "reranker", student / "engines" / "openvino")
    columns = made.tokenize(calibrating)
    rows = [{key: column[i] for key, column in columns.items()} for i in range(len(calibrating))]
    quantize_openvino(graph, rows, student / "engines" / name)
    write_record(student / "engines" / name, name, student / "reranker", {})


def take_turns(sides: Mapping[str, Score], pairs: Pairs, rounds: int) -> dict[str, list[float]]:
    """Pairs a second of each side in each round; the first round warms up and is left out."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, score in sides.items():
            start = time.perf_counter()
            score(pairs)
            if number:
                found[name].append(len(pairs) / (time.perf_counter() - start))
    return found


def deltas(lists: Lists, engines: Mapping[str, PairModel], reference: PairModel) -> tuple[float, dict[str, float]]:
    """nDCG@10 of the reference, and what each engine gains over it."""

    def ndcg(model: PairModel, label: str) -> float:
        scores = model.score(lists.pairs, label=label)
        return mean(evaluate(lists.run.rescored("reranked", scores), lists.qrels, (MEASURE,))[MEASURE])

    expected = ndcg(reference, "torch fp32")
    return expected, {name: round(ndcg(model, name) - expected, 5) for name, model in engines.items()}


def summary(speeds: Mapping[str, Sequence[float]], delta: Mapping[str, float]) -> dict[str, Any]:
    """The ratios that count: of the fastest engine that ranks without loss, and of the fastest in eight bits."""

    def against(peer: str, names: Sequence[str]) -> float | None:
        return max((ratio(speeds[name], speeds[peer]) for name in names if peer in speeds), default=None)

    lossless = [name for name in delta if abs(delta[name]) <= LOSSLESS]
    int8 = [name for name in delta if name.endswith("-int8") and delta[name] >= -MAY_LOSE]
    return {
        "lossless_ratio": against(ST, lossless),
        "int8_ratio": against(ST, int8),
        "lossless_bf16_ratio": against(ST_BF16, lossless),
        "int8_bf16_ratio": against(ST_BF16, int8),
        "ort_int8_ratio": against(ORT, int8),
        "student3_int8_ratio": against(ST, [STUDENT]),
        "ndcg_delta": dict(delta),
        "ratios": {name: ratio(values, speeds[ST]) for name, values in speeds.items()},
    }


def run(options: ScoringOptions) -> dict[str, Any]:
    """The part `--scoring`."""
    lists = lists_of(options)
    engines = engines_of(options, lists.pairs[:CALIBRATING])
    reference = Reranker.load(options.bundle / "reranker", precision="fp32")
    sides = peers(options.bundle / "reranker", options.bundle / ENGINES_FOLDER / "onnx-int8" / GRAPHS["onnx-int8"])
    speeds = take_turns(sides | {name: model.score for name, model in engines.items()}, lists.timed, options.rounds)
    expected, delta = deltas(lists, {name: model for name, model in engines.items() if name != STUDENT}, reference)
    tokens = [len(row) for row in reference.tokenize(lists.timed)["input_ids"]]
    peak, work = measure_peak(), work_of(reference.model.config, tokens)
    shares = {
        name: round(float(np.median(speeds[name])) / len(tokens) * work / peak[numbers], 3)
        for name, numbers in (("openvino", "bf16"), ("openvino-int8", "int8"))
        if numbers in peak
    }
    return {
        **summary(speeds, delta),
        "scoring": {
            "pairs_per_s": {name: round(float(np.median(values)), 1) for name, values in speeds.items()},
            "ndcg_torch_fp32": round(expected, 4),
            "queries": len(lists.run),
            "mean_tokens": round(float(np.mean(tokens)), 1),
            "threads": available_threads(),
            "peak_gops": {name: round(value / 1e9) for name, value in peak.items()},
            "share_of_peak": shares,
        },
    }


def main() -> None:
    """Measure a bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--collection", type=Path, help="default: beside the bundle")
    parser.add_argument("--output", type=Path, default=Path("runs/bench-serve"))
    for name in ("pairs", "rounds", "queries", "depth"):
        parser.add_argument(f"--{name}", type=int, default=ScoringOptions._field_defaults[name])
    given = vars(parser.parse_args())
    given["collection"] = given["collection"] or given["bundle"].parent / "collection"
    print(json.dumps(run(ScoringOptions(**given))))


if __name__ == "__main__":
    main()
