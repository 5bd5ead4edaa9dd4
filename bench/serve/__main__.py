"""Serving, measured: scoring against its peers, searches end to end, nothing lost, and the same score everywhere.

    python -m bench.serve [--scoring] [--pipeline] [--soak] [--parity] [--data data] [--output runs/bench-serve]

Parts are chosen by flag; without one, all are made. `--data` holds the collection feedbackqa, a folder in BEIR layout;
the bundle is made of it by the product itself, unless `--bundle` gives one. Timings are worth something on a quiet
machine only.

- scoring: pairs a second of every engine, against sentence-transformers and ONNX Runtime as they come, in one run.
- pipeline: `/search` of a real server process: p50 and p95, alone and with clients side by side; how many searches keep
  a budget of half the usual time; throughput under saturation as a share of the offline rate of the same engine; p95
  with the batcher against servers without one.
- soak: requests in all conventions, with disconnects, oversized and malformed bodies, and a SIGTERM in the middle.
- parity: a pair's score through the library, the server and every engine, alone and in any batch.

The last line is JSON; what was not measured is absent.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.parts import make_parts

from .ground import Options

PARTS = ("scoring", "pipeline", "soak", "parity")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for part in PARTS:
        parser.add_argument(f"--{part}", action="store_true", help="this part, and others that are named")
    add = parser.add_argument
    add("--data", type=Path, default=Path("data"), help="the folder of the collections")
    add("--output", type=Path, default=Path("runs/bench-serve"))
    add("--bundle", type=Path, help="a bundle, its collection beside it; default: one is made")
    add("--minutes", type=float, default=4.0, help="of training, where one is made")
    add("--depth", type=int, default=50, help="candidates that are reranked")
    add("--backend", default="openvino-int8", help="of pipeline and soak")
    add("--pairs", type=int, default=100, help="of scoring, against the clock")
    add("--clients", type=int, default=8, help="of pipeline")
    add("--saturating", type=int, default=24, help="clients that saturate")
    add("--queries", type=int, default=200, help="test queries that are searched, at most")
    add("--seconds", type=float, default=30.0, help="of each measurement of pipeline")
    add("--requests", type=int, default=20_000, help="of soak")
    add("--soak-clients", type=int, default=64)
    add("--tolerance", type=float, default=1e-3, help="of a score in soak")
    add("--engines", nargs="+", default=["torch", "onnx", "openvino", "openvino-int8"], help="of parity")
    add("--parity-queries", type=int, default=20)
    return parser.parse_args()


def measure(part: str, given: argparse.Namespace, options: Options) -> dict[str, Any]:
    """One part."""
    if part == "pipeline":
        from .pipeline import measure_pipeline

        return measure_pipeline(
            options,
            backend=given.backend,
            clients=given.clients,
            saturating=given.saturating,
            queries=given.queries,
            seconds=given.seconds,
        )
    if part == "soak":
        from .soak import measure_soak

        return measure_soak(
            options,
            backend=given.backend,
            requests=given.requests,
            clients=given.soak_clients,
            tolerance=given.tolerance,
        )
    if part == "parity":
        from .parity import measure_parity

        return measure_parity(options, engines=given.engines, queries=given.parity_queries)
    from .scoring import ScoringOptions, run

    return run(ScoringOptions(options.bundle, options.bundle.parent / "collection", options.output, given.pairs))


def main() -> None:
    """Make the parts that are chosen."""
    given = parse()
    bundle = given.bundle.resolve() if given.bundle else None
    options = Options(given.data, given.output.resolve(), given.minutes, given.depth, bundle)
    make_parts(PARTS, given, lambda part: measure(part, given, options))


if __name__ == "__main__":
    main()
