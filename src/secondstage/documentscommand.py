"""The command that adds documents to a bundle and removes some, without training anything again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .collection import beside


def add_documents(commands: Any) -> None:
    """Add `documents` to the commands of a parser."""
    documents = commands.add_parser(
        "documents",
        help="add documents to a bundle, and remove some, without training again",
        description="Make a bundle anew over other documents. Models, depth and weight stay; the gate's proof was for "
        "the old documents and is dropped.",
    )
    documents.add_argument("bundle", metavar="BUNDLE", help="the folder that a run made, e.g. runs/demo/bundle")
    documents.add_argument("--add", metavar="FILE", help="JSON lines of _id, title, text, metadata, as BEIR has")
    documents.add_argument("--remove", metavar="FILE", help="document ids, one a line; those of --add may replace them")
    documents.add_argument("--output", metavar="DIR", help="default: the bundle itself is replaced")
    documents.set_defaults(function=_documents)


def _documents(parsed: argparse.Namespace) -> None:
    from secondstage.serve import update_documents

    paths = {name: getattr(parsed, name) for name in ("bundle", "add", "remove", "output")}
    found = {name: None if path is None else Path(path).expanduser() for name, path in paths.items()}
    bundle = found["bundle"]
    assert bundle is not None
    updated = update_documents(bundle, add=found["add"], remove=found["remove"], output=found["output"])
    print(f"{updated.documents} documents: {updated.added} added, {updated.removed} removed")
    measured = _measured(bundle, found["output"] or bundle)
    print(
        f"Models, depth and weight are as before; the gate judged the old documents. `secondstage evaluate {measured}` "
        "measures it on the judgements that there are; a proof takes a run over the new collection, into another "
        "output folder"
    )


def _measured(old: Path, new: Path) -> str:
    """What `evaluate` is given for the new bundle: with the collection, unless it lies beside it."""
    for bundle in (new, old):
        if beside(bundle):
            return f"{new}" if bundle == new else f"{new} --collection {bundle.parent / 'collection'}"
    return f"{new} --collection OUTPUT/collection"
