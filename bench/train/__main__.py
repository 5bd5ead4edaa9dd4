"""The trainer, measured: speed and quality against its peer, with few labels, and of students.

    python -m bench.train [--throughput] [--quality] [--little] [--few] [--students] [--data data] [--output runs/bench]

Parts are chosen by flag; without one, all are made, which takes most of a day. `--data` holds the collections, folders
in BEIR layout: feedbackqa, scifact, medquad and liveqa-med. Everything is made by the product itself, by the configs
that it ships; `--set` changes keys of our own. What is measured is a line of OUTPUT/cells.jsonl, and not measured
again; delete the line, or the file, to do so. Timings, and quality at equal minutes, are worth something on a quiet
machine only.

- throughput: steps of training on feedbackqa, ours and those of sentence-transformers' `CrossEncoderTrainer` at the
  best of some settings, on the same lists; rounds take turns, each side in a process of its own; medians of ratios.
- quality: nDCG@10 on test after equal minutes: the peer reranked, ours reranked and fused. Ours pays for its dev
  evaluations out of its minutes, and reads its texts before the clock runs; the peer keeps its last weights, and
  tokenises as it goes.
- little: so many training queries of feedbackqa: the pipeline against its first stage, at every seed.
- few: scifact with a warm-up on the documents: the same, on test and on the queries whose documents were never seen.
- students: of a six-layer teacher on medquad, with unlabelled queries, and without teacher; liveqa-med for all.

The last line is JSON; what was not measured is absent.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.parts import make_parts

from .cells import Cells
from .ground import Options
from .labels import measure_few, measure_little
from .quality import measure_quality
from .students import measure_students
from .throughput import measure_throughput

PARTS = ("throughput", "quality", "little", "few", "students")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for part in PARTS:
        parser.add_argument(f"--{part}", action="store_true", help="this part, and others that are named")
    add = parser.add_argument
    add("--data", type=Path, default=Path("data"), help="the folder of the collections")
    add("--output", type=Path, default=Path("runs/bench"))
    add("--seeds", type=int, nargs="+", default=[13, 14, 15])
    add("--queries", type=int, help="test queries at most; default: all")
    add("--depth", type=int, default=30, help="candidates that are reranked, at most")
    add("--minutes", type=float, default=4.0, help="of training: quality, little, and the labels of few")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of our own configs")
    add("--rounds", type=int, default=5, help="of throughput")
    add("--seconds", type=float, default=60.0, help="of a round")
    add("--trial-seconds", type=float, default=30.0, help="for each setting of the peer that is tried")
    add("--trial-lists", type=int, nargs="+", default=[4, 8, 16], help="of a step of the peer, which throughput tries")
    add("--peer-lists", type=int, nargs="+", default=[8], help="the same for quality: the best on test counts")
    add("--shares", type=float, nargs="*", default=[0.25, 0.5], help="of the minutes of quality, measured too")
    add("--sizes", type=int, nargs="+", default=[100, 300, 1000], help="training queries of little")
    add("--warmup-minutes", type=float, default=5.0, help="of few")
    add("--teacher", type=Path, help="a trained reranker's folder; default: one is trained")
    add("--teacher-minutes", type=float, default=60.0)
    add("--student-minutes", type=float, default=30.0)
    add("--unlabelled", type=int, help="unlabelled queries at most; default: all")
    add("--layers", type=int, nargs="+", default=[3, 2])
    add("--repeats", type=int, default=7, help="turns of scoring")
    return parser.parse_args()


def measure(part: str, given: argparse.Namespace, options: Options, cells: Cells) -> dict[str, Any]:
    """One part."""
    if part == "throughput":
        return measure_throughput(
            options,
            cells,
            rounds=given.rounds,
            seconds=given.seconds,
            trial_seconds=given.trial_seconds,
            lists=given.trial_lists,
        )
    if part == "quality":
        return measure_quality(
            options,
            cells,
            minutes=given.minutes,
            shares=given.shares,
            lists=given.peer_lists,
            trial_seconds=given.trial_seconds,
        )
    if part == "little":
        return measure_little(options, cells, minutes=given.minutes, sizes=given.sizes)
    if part == "few":
        return measure_few(options, cells, warmup=given.warmup_minutes, minutes=given.minutes)
    return measure_students(
        options,
        cells,
        teacher=given.teacher,
        teacher_minutes=given.teacher_minutes,
        minutes=given.student_minutes,
        unlabelled=given.unlabelled,
        layers=given.layers,
        repeats=given.repeats,
    )


def main() -> None:
    """Make the parts that are chosen."""
    given = parse()
    output = given.output.resolve()
    options = Options(given.data, output, tuple(given.seeds), given.queries, given.depth, tuple(given.set))
    cells = Cells(output / "cells.jsonl")
    make_parts(PARTS, given, lambda part: measure(part, given, options, cells))


if __name__ == "__main__":
    main()
