"""Sides that run in processes of their own: what one does to memory or threads is nothing to the other."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from secondstage.config import TrainConfig
from secondstage.lists import read_lists
from secondstage.texts import PairTexts
from secondstage.train.examples import Shape


def run_side(module: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Run `python -m bench.train.MODULE` with this spec. Returns the JSON of its last line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.json"
        path.write_text(json.dumps(spec))
        command = [sys.executable, "-m", f"bench.train.{module}", str(path)]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        sys.exit(process.stderr)
    found: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return found


def write_lists(mined: Path, texts: PairTexts, config: TrainConfig, seed: int, path: Path) -> int:
    """Write the lists that our first epoch draws of what was mined, as the peer reads them. Returns how many."""
    shape, count = Shape(config.positives, config.negatives), 0
    with path.open("w", encoding="utf-8") as file:
        kept = [found for found in read_lists(mined / "train") if shape.teaches(found)]
        for i, found in enumerate(kept):
            example = shape.draw(found, np.random.default_rng((seed, 0, 1 + i)))
            pairs = texts(example.pairs)
            docs = [document for _, document in pairs]
            file.write(json.dumps({"query": pairs[0][0], "docs": docs, "labels": example.labels}) + "\n")
            count += 1
    return count
