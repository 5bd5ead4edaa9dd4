"""The command that asks a bundle."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from .errors import UserError


def add_search(commands: Any) -> None:
    """Add `search` to the commands of a parser."""
    search = commands.add_parser("search", help="ask a bundle")
    search.add_argument("bundle", metavar="BUNDLE", help="the folder that a run made, e.g. runs/demo/bundle")
    search.add_argument("query", metavar="QUERY")
    search.add_argument("--top-n", type=int, default=10, metavar="N", help="default: %(default)s")
    search.add_argument("--depth", type=int, metavar="N", help="candidates that are reranked; default: the bundle's")
    search.add_argument(
        "--min-score", type=float, metavar="P", help="leave out results below this probability, from 0 to 1"
    )
    search.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="only documents whose metadata hold this; given again for the same field: any of the values",
    )
    search.add_argument("--latency-ms", type=float, metavar="MS", help="rerank no more than this allows")
    search.add_argument("--pack-tokens", type=int, metavar="N", help="print the results as a context of so many tokens")
    search.add_argument("--json", action="store_true", help="print the results, and how sure they are, as JSON")
    search.add_argument(
        "--fallback",
        action="store_true",
        default=None,
        help="first-stage order unless the gate let the bundle through",
    )
    search.set_defaults(function=_search)


def _search(parsed: argparse.Namespace) -> None:
    from secondstage.serve import Pipeline, SearchOptions

    options = SearchOptions(
        top_n=parsed.top_n,
        depth=parsed.depth,
        min_score=parsed.min_score,
        latency_ms=parsed.latency_ms,
        where=parse_where(parsed.where) or None,
        pack_tokens=parsed.pack_tokens,
    )
    options.check()
    pipeline = Pipeline.load(parsed.bundle, fallback=parsed.fallback)
    _warn(pipeline)
    if parsed.latency_ms is not None:
        pipeline.prepare()  # measures, which is no part of the search
    answer = pipeline.answer(parsed.query, options=options)
    usual = min(parsed.depth or pipeline.depth, len(answer.trace.first))
    if parsed.latency_ms is not None and answer.trace.depth < usual:
        print(f"secondstage: {answer.trace.depth} candidates were reranked, to keep --latency-ms", file=sys.stderr)
    if parsed.json:
        print(json.dumps(_as_json(answer), ensure_ascii=False, indent=2))
    elif answer.context is not None:
        print("\n\n".join(piece.text for piece in answer.context))
    else:
        _print(answer)


def parse_where(given: Sequence[str]) -> dict[str, list[str]]:
    """The values by field of `field=value` texts. `UserError` if one is none."""
    where: dict[str, list[str]] = {}
    for text in given:
        field, equals, value = text.partition("=")
        if not equals or not field:
            raise UserError(f"--where {text!r} is no FIELD=VALUE, e.g. --where language=en")
        where.setdefault(field, []).append(value)
    return where


def _warn(pipeline: Any) -> None:
    """Say on standard error what the gate said."""
    if pipeline.refused and pipeline.verdict:
        order = (
            "the first stage's order is given" if pipeline.falls_back else "--fallback gives the first stage's order"
        )
        print(f"secondstage: the gate refused this bundle; {order}. {pipeline.verdict.sentence}", file=sys.stderr)
    elif pipeline.falls_back:
        print("secondstage: this bundle was never evaluated; the first stage's order is given", file=sys.stderr)


def _as_json(answer: Any) -> dict[str, Any]:
    # An object, as the confidence is that of the whole list, and there where nothing is found.
    found: dict[str, Any] = {
        "answerable": answer.answerable,
        "confidence": answer.confidence,
        "results": [result._asdict() for result in answer.results],
    }
    if answer.context is not None:
        found["context"] = [piece._asdict() for piece in answer.context]
    return found


def _print(answer: Any) -> None:
    if not answer.answerable:
        print(f"probably no relevant document: confidence {answer.confidence:.2f} is below the threshold chosen on dev")
    if not answer.results:
        print("nothing found")
    for result in answer.results:
        moved = result.first_stage_rank - result.rank
        arrow = f"↑{moved}" if moved > 0 else f"↓{-moved}" if moved < 0 else "="
        print(
            f"{result.rank:>3}  (first stage {result.first_stage_rank:>3} {arrow:>4})  {result.title or result.doc_id}"
        )
        print(f"     {one_line(result.text)}")


def one_line(text: str, width: int = 110) -> str:
    """A text without line breaks, cut to a width."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
