"""A collection on which something is measured: the product run on it, and what its pipelines are worth on test."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from secondstage import firststage
from secondstage.collection import Collection, Qrels
from secondstage.commands import carry_out_up_to
from secondstage.config import Config
from secondstage.configfile import load_config
from secondstage.firststage import search_run
from secondstage.measures import Values, evaluate
from secondstage.pairmodel import PairModel
from secondstage.run import Run
from secondstage.serve import Pipeline
from secondstage.serve.fuse import fuse
from secondstage.splits import choose_answerable

MEASURE = "nDCG@10"
# Which test queries are used, where not all are: the same at every seed of the training.
CHOICE = 13


class Options(NamedTuple):
    """What all parts share.

    Attributes:
        data: the folder of the collections.
        output: where everything is made.
        seeds: of mining and training.
        queries: test queries at most; none means all.
        depth: candidates that are reranked.
        settings: further `key=value` overrides of our own configs; those of `distill` where students are distilled.
    """

    data: Path
    output: Path
    seeds: tuple[int, ...]
    queries: int | None
    depth: int
    settings: tuple[str, ...]

    def key(self, part: str, **more: Any) -> dict[str, Any]:
        """The key of a measurement of quality."""
        shared = {"queries": self.queries, "depth": self.depth, "settings": list(self.settings)}
        return {"part": part, **shared, **more}


class Orders(NamedTuple):
    """The measure of each query's list, in three orders."""

    first_stage: Values
    reranked: Values
    pipeline: Values


class Ground:
    """One collection. All runs of the product share a folder, in which only what a run changes is made again."""

    def __init__(self, name: str, options: Options) -> None:
        """Nothing is made yet; `name` is the collection's folder in `options.data`."""
        self.source, self.output, self.options = options.data / name, options.output / name, options

    def config(self, base: str = "domain", **changes: Any) -> Config:
        """A config that ships with the product, with these changes; `__` in a name stands for a dot."""
        given = {
            "output": str(self.output),
            "collection.source": str(self.source.resolve()),
            "serve.max_depth": self.options.depth,
        }
        given |= {key.replace("__", "."): value for key, value in changes.items()}
        overrides = [f"{key}={json.dumps(value)}" for key, value in given.items()]
        settings = [item for item in self.options.settings if base == "distill" or not item.startswith("distill.")]
        with resources.as_file(resources.files("secondstage.configs") / f"{base}.yaml") as path:
            return load_config(path, [*overrides, *settings])

    def carry_out(self, command: str, base: str = "domain", **changes: Any) -> dict[str, Any]:
        """Run the product up to a command. Returns the manifest of its last stage."""
        return carry_out_up_to(command, self.config(base, **changes))[-1]

    @cached_property
    def collection(self) -> Collection:
        """The stored collection: texts and test split are the same at every seed."""
        return Collection.load(self.output / "collection")

    @cached_property
    def qrels(self) -> Qrels:
        """The judgements of the test queries."""
        return choose_answerable(self.collection.qrels["test"], self.options.queries, CHOICE)

    @cached_property
    def run(self) -> Run:
        """The candidates of the test queries."""
        first_stage = firststage.load(self.output / "first_stage")
        queries = {query_id: self.collection.queries[query_id] for query_id in self.qrels}
        return search_run(first_stage, self.collection.documents.ids, queries, self.options.depth)

    def values(self, run: Run) -> Values:
        """The measure by query."""
        return evaluate(run, self.qrels, [MEASURE])[MEASURE]

    def reranked(self, reranker: PairModel, label: str = "test") -> Run:
        """The candidates in a reranker's order."""
        return reranker.rerank(self.run, self.collection.queries, self.collection.documents, label=label)

    def orders(self, bundle: Pipeline) -> dict[str, Values]:
        """What a bundle is worth on test, as `Orders`; its depth is at most that of the candidates."""
        reranked = self.reranked(bundle.reranker)
        pipeline = fuse(self.run, reranked, bundle.weight, bundle.depth)
        return Orders(*map(self.values, (self.run, reranked, pipeline)))._asdict()

    def bundle(self) -> Pipeline:
        """The pipeline that was made last."""
        return Pipeline.load(self.output / "bundle")


def read_qrels(path: Path) -> Qrels:
    """A file of qrels in BEIR's format."""
    found: Qrels = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            found.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return found


def column(cells: Sequence[Mapping[str, Any]], name: str) -> list[Values]:
    """One of the orders, of several cells."""
    return [cell[name] for cell in cells]
