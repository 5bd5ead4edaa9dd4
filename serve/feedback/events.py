"""Reading what the server wrote: judgements and clicks from one kind of file, the lists shown from another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from secondstage.errors import Faults, UserError
from secondstage.intake import SURROGATE
from secondstage.sources.records import id_text, json_lines

JUDGEMENT, CLICK = "judgement", "click"


class Said(NamedTuple):
    """A judgement or a click.

    Attributes:
        time: ISO 8601, in UTC: later is greater.
        kind: "judgement" or "click".
        search_id: whose results it is about; none if that is not known.
        query: text.
        doc_id: the document.
        relevance: of a judgement.
    """

    time: str
    kind: str
    search_id: str | None
    query: str
    doc_id: str
    relevance: int


class Events(NamedTuple):
    """What was read.

    Attributes:
        said: judgements and clicks, the earliest first.
        shown: document ids by search id, in the order of the page.
        broken: lines that could not be read, e.g. one that a kill cut short.
    """

    said: list[Said]
    shown: dict[str, Sequence[str]]
    broken: int


def read_events(paths: Iterable[Path]) -> Events:
    """Read files of judgements and journals, in any order; each line says what it is.

    Raises:
        UserError: a file cannot be read, or none holds a judgement or a click.
    """
    paths = list(paths)
    faults = Faults("feedback")
    said: list[Said] = []
    shown: dict[str, Sequence[str]] = {}
    for path in paths:
        for where, record in json_lines(path, faults):
            kind = record.get("kind")
            if kind in (JUDGEMENT, CLICK):
                said.extend(filter(None, [to_said(record, where, faults)]))
            elif kind == "search" and "shown" in record:
                shown |= to_shown(record, where, faults)
    if not said:
        names = ", ".join(map(str, paths))
        raise UserError(
            f"{names}: no judgement and no click in {len(shown)} searches{faults_in(faults)}: give the file that the "
            "server's judgements= names, and for clicks its journal"
        )
    # Files may come in any order; of one time, the later line counts.
    return Events(sorted(said, key=lambda each: each.time), shown, faults.count)


def faults_in(faults: Faults) -> str:
    """The first fault, in brackets."""
    return f" ({faults.count} lines cannot be read: {faults.messages[0]})" if faults.count else ""


def to_shown(record: Mapping[str, Any], where: str, faults: Faults) -> dict[str, Sequence[str]]:
    """A search's list by its id; nothing, and a fault that says `where`, if either is missing or of no use."""
    search_id, given = id_text(record.get("id")), record["shown"]
    doc_ids = [doc_id for each in given if (doc_id := id_text(each))] if isinstance(given, list) else []
    if not search_id or not isinstance(given, list) or len(doc_ids) < len(given):
        faults.add(f"{where}: id of a search must be a text or a whole number, shown a list of such")
        return {}
    return {search_id: doc_ids}


def utc(time: object) -> str | None:
    """A time of ISO 8601 in UTC, which one without a zone is taken for, so that later ones sort later; none if it is
    none."""
    try:
        found = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", str(time)))
    except ValueError:
        return None
    return (
        (found if found.tzinfo else found.replace(tzinfo=timezone.utc))
        .astimezone(timezone.utc)
        .isoformat(timespec="microseconds")
    )


def to_said(record: Mapping[str, Any], where: str, faults: Faults) -> Said | None:
    """A record's judgement or click; none, and a fault that says `where`, if something is missing or of no use."""
    texts = [utc(record.get("time")), record.get("kind"), record.get("query"), id_text(record.get("doc_id"))]
    relevance, search_id = record.get("relevance"), id_text(record.get("id"))
    whole = isinstance(relevance, int) and not isinstance(relevance, bool) and relevance >= 0
    if not all(isinstance(text, str) and text.strip() for text in texts) or not whole:
        faults.add(
            f"{where}: no judgement: time must be one of ISO 8601, kind, query, doc_id texts, relevance a whole number"
        )
        return None
    time, kind, query, doc_id = map(str, texts)
    if SURROGATE.search(query):
        faults.add(f"{where}: the query holds half a surrogate pair, which is no character")
        return None
    return Said(time, kind, search_id, query, doc_id, int(relevance or 0))
