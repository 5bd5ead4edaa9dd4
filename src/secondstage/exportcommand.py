"""The command that exports a bundle's reranker to other engines and servers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

TARGETS = (
    "safetensors",
    "onnx",
    "onnx-int8",
    "openvino",
    "openvino-int8",
    "opensearch",
    "vespa",
    "qdrant",
    "elasticsearch",
)


def add_export(commands: Any) -> None:
    """Add `export` to the commands of a parser."""
    export = commands.add_parser(
        "export",
        help="a bundle's reranker for other engines and servers, compared with the bundle before it is written",
        description="Write the reranker of a bundle as other engines and servers read it. Each export is loaded back "
        "and compared with the bundle on ranked lists; one that is too far off is refused, and nothing is written.",
    )
    export.add_argument("bundle", metavar="BUNDLE", help="the folder that a run made, e.g. runs/demo/bundle")
    export.add_argument("--to", required=True, nargs="+", choices=TARGETS, metavar="NAME", help=", ".join(TARGETS))
    export.add_argument(
        "--output",
        metavar="DIR",
        help="each export gets a folder of its name in it; without it, the engines onnx, onnx-int8, openvino and "
        "openvino-int8 are put into the bundle, which then serves with the fastest",
    )
    export.add_argument("--collection", metavar="DIR", help="whose queries are compared; default: beside the bundle")
    export.add_argument(
        "--queries", type=int, default=100, metavar="N", help="that are compared at most; default: %(default)s"
    )
    export.set_defaults(function=_export)


def _export(parsed: argparse.Namespace) -> None:
    from secondstage.serve.export import export_bundle

    bundle, output = Path(parsed.bundle).expanduser(), parsed.output and Path(parsed.output).expanduser()
    print(*export_bundle(bundle, parsed.to, output, parsed.collection, parsed.queries), sep="\n")
