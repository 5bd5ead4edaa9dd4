"""The bundle that is measured: made by the product itself, from feedbackqa, with the engines that it exports."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.train.ground import Ground
from bench.train.ground import Options as Making
from secondstage.collection import Collection
from secondstage.progress import say

NAME = "feedbackqa"
SEED = 13


@dataclass
class Options:
    """What all parts share.

    Attributes:
        data: the folder of the collections.
        output: where everything is made.
        minutes: of training the reranker.
        depth: candidates that are reranked.
        given: a bundle that is made already; none makes one.
    """

    data: Path
    output: Path
    minutes: float
    depth: int
    given: Path | None = None

    @cached_property
    def collection(self) -> Collection:
        """The stored collection: beside the bundle."""
        return Collection.load(self.bundle.parent / "collection")

    @cached_property
    def bundle(self) -> Path:
        """A trained reranker behind a hybrid, without a proof."""
        if self.given is not None:
            return self.given
        ground = Ground(NAME, Making(self.data, self.output, (SEED,), None, self.depth, ()))
        say(f"{NAME}: the bundle …")
        ground.carry_out("bundle", seed=SEED, train__minutes=self.minutes, serve__depth=self.depth)
        return ground.output / "bundle"

    def engine(self, name: str) -> str:
        """The name of an engine, which is exported into the bundle unless it is there."""
        if name not in ("torch", "auto") and not (self.bundle / "engines" / name).is_dir():
            say(f"secondstage export --to {name} …")
            command = [sys.executable, "-m", "secondstage", "export", str(self.bundle), "--to", name]
            subprocess.run(command, check=True)
        return name

    @cached_property
    def queries(self) -> list[str]:
        """The texts of the test queries."""
        return [self.collection.queries[query_id] for query_id in self.collection.qrels["test"]]
