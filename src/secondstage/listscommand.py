"""The commands of training lists: to other toolkits' formats, and from them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_lists(commands: Any) -> None:
    """Add `lists export` and `lists import` to the commands of a parser."""
    lists = commands.add_parser("lists", help="training lists for other toolkits, and from them")
    verbs = lists.add_subparsers(required=True, metavar="export | import")
    formats = ("bge", "triplet", "n-tuple", "labeled-list")

    export = verbs.add_parser("export", help="write the training lists of a run in another toolkit's format")
    export.add_argument("folder", metavar="RUN", help="the output folder of a run, or its mine folder")
    export.add_argument("--to", required=True, choices=(*formats, "trec"))
    export.add_argument("--out", required=True, metavar="PATH", help="a new .jsonl or .parquet; for trec a folder")
    export.add_argument("--scores", action="store_true", help="with the teachers' scores; instead of labels in a list")
    export.add_argument("--negatives", type=int, metavar="N", help="of an n-tuple; default: what most lists have")
    export.add_argument("--collection", metavar="DIR", help="default: beside the mine folder, or around it")
    export.set_defaults(function=_export_lists)

    from_file = verbs.add_parser("import", help="make a file of lists into a collection that can be trained on")
    from_file.add_argument("file", metavar="FILE", help="JSON lines, plain or .gz, or Parquet")
    from_file.add_argument("--from", required=True, choices=formats, dest="form")
    from_file.add_argument("--out", required=True, metavar="FOLDER", help="in BEIR layout")
    from_file.set_defaults(function=_import_lists)


def _export_lists(parsed: argparse.Namespace) -> None:
    from .exchange import export_lists

    folder, out = (Path(path).expanduser() for path in (parsed.folder, parsed.out))
    collection = Path(parsed.collection).expanduser() if parsed.collection else None
    options = {"collection": collection, "scores": parsed.scores, "negatives": parsed.negatives}
    print(*export_lists(folder, parsed.to, out, **options), sep="\n")


def _import_lists(parsed: argparse.Namespace) -> None:
    from .exchange import import_lists

    file, out = (Path(path).expanduser() for path in (parsed.file, parsed.out))
    print(*import_lists(file, parsed.form, out), sep="\n")
