"""The command that makes training data of what people said of search results."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_feedback(commands: Any) -> None:
    """Add `feedback` to the commands of a parser."""
    feedback = commands.add_parser(
        "feedback",
        help="judgements and clicks of a server: qrels and training lists",
        description="Make a collection of what a server's judgements file says; clicks need its journals beside it, "
        "which know what was shown above. A judgement counts more than any click, the latest more than others.",
    )
    feedback.add_argument("files", nargs="+", metavar="FILE", help="files of judgements, and journals, in any order")
    feedback.add_argument("bundle", metavar="BUNDLE", help="the bundle that was searched")
    feedback.add_argument("--output", required=True, metavar="DIR", help="a BEIR folder with lists and reviewed.tsv")
    feedback.add_argument("--collection", metavar="DIR", help="to be added to; default: beside the bundle, if there")
    feedback.add_argument(
        "--least",
        type=int,
        default=1,
        metavar="N",
        help="times that a document was clicked over another, more often than the reverse; default: %(default)s",
    )
    feedback.set_defaults(function=_feedback)


def _feedback(parsed: argparse.Namespace) -> None:
    from secondstage.serve.feedback import make_feedback

    from .errors import UserError

    if parsed.least < 1:
        raise UserError(f"--least {parsed.least}: give at least 1")
    *files, bundle, output = (Path(path).expanduser() for path in (*parsed.files, parsed.bundle, parsed.output))
    collection = Path(parsed.collection).expanduser() if parsed.collection else None
    print(*make_feedback(files, bundle, output, collection=collection, least=parsed.least), sep="\n")
