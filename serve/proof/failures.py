"""Failed queries for people and programs: counts, a text for the terminal, and records."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from secondstage.collection import Documents

from .diagnosis import CAUSES, Cause, Failure, Placed

ADVICE: dict[Cause, str] = {
    "first_stage_miss": "no relevant document was a candidate: raise serve.depth, or change first_stage",
    "truncated": "the evidence was cut off: raise train.max_length, or split documents into passages",
    "unjudged": "the document ranked first may be relevant: judge it",
    "reranker_error": "candidates in the wrong order: train on more data, or better data",
}
# Characters of a text, and of a line, on the terminal.
SHOWN = 300
WIDTH = 100


def summarise(failures: Sequence[Failure], queries: int, cutoff: int) -> dict[str, Any]:
    """Count the causes.

    Args:
        failures: what `diagnose` found.
        queries: how many it looked at.
        cutoff: a query failed without a relevant document among so many.
    """
    return {"cutoff": cutoff, "queries": queries, "failed": len(failures), "counts": _counts(failures)}


def _counts(failures: Sequence[Failure]) -> dict[Cause, int]:
    return {cause: sum(failure.cause == cause for failure in failures) for cause in CAUSES}


def as_records(failures: Sequence[Failure], queries: Mapping[str, str], documents: Documents) -> list[dict[str, Any]]:
    """The failures as they go into a JSON lines file, texts included: null where the corpus lacks a document."""
    return [
        failure._asdict()
        | {
            "query": queries[failure.query_id],
            "relevant": _record(failure.doc_id, failure.relevant, documents),
            "rival": failure.rival and _record(failure.rival.doc_id, failure.rival, documents),
        }
        for failure in failures
    ]


def _record(doc_id: str, placed: Placed | None, documents: Documents) -> dict[str, Any]:
    ranks = placed._asdict() if placed else dict.fromkeys(Placed._fields)
    found = documents.by_id(doc_id) if doc_id in documents else None
    texts = {"title": found.title, "text": found.text} if found else {"title": None, "text": None}
    return {**ranks, "doc_id": doc_id, "in_corpus": found is not None, **texts}


def describe(failures: Sequence[Failure], queries: Mapping[str, str], documents: Documents, limit: int) -> str:
    """The counts with advice, then the failed queries by cause, each with its relevant document and what beat it.

    Args:
        failures: what `diagnose` found.
        queries: texts by query id.
        documents: the corpus.
        limit: so many queries of each cause are shown.
    """
    lines = [f"failed queries: {len(failures)}"]
    lines += [f"  {cause:16} {count:5}  {ADVICE[cause]}" for cause, count in _counts(failures).items()]
    if by_fusion := sum(failure.blame == "fusion" for failure in failures):
        lines.append(f"  {by_fusion} of these are the fusion's: the reranker alone has it right, see serve.weight")
    for cause in CAUSES:
        chosen = [failure for failure in failures if failure.cause == cause]
        if chosen and limit > 0:
            lines += ["", cause]
        for failure in chosen[:limit]:
            lines += _query(failure, queries[failure.query_id], documents)
        if len(chosen) > limit:
            lines.append(f"  … and {len(chosen) - limit} more")
    return "\n".join(lines)


def _query(failure: Failure, text: str, documents: Documents) -> list[str]:
    lines = [f"  query {failure.query_id}: {_short(text)}"]
    lines += _document("relevant", failure.doc_id, failure.relevant, documents)
    if failure.cause == "truncated":
        lines.append(f"      {failure.tokens} tokens with the query; cut off, but scored {failure.window_score:.3f}:")
        lines += _indented(failure.window or "")
    if failure.rival:
        lines += _document("ranked first", failure.rival.doc_id, failure.rival, documents)
    return lines


def _document(role: str, doc_id: str, placed: Placed | None, documents: Documents) -> list[str]:
    where = (
        f"first stage {placed.first_stage_rank} ({placed.first_stage_score:.3f}), "
        f"reranker {placed.reranked_rank} ({placed.reranker_score:.3f}), pipeline {placed.pipeline_rank}"
        if placed
        else "no candidate"
    )
    if doc_id not in documents:
        return [f"    {role} {doc_id}: not in the corpus"]
    found = documents.by_id(doc_id)
    return [f"    {role} {doc_id}: {where}", *(_indented(found.title) if found.title else ()), *_indented(found.text)]


def _indented(text: str) -> list[str]:
    return textwrap.wrap(_short(text), WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else text[: SHOWN - 1].rstrip() + "…"
