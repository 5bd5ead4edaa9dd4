"""The audit's files: `audit.json`, `audit.html`, and the reviewable sample `suspicious.tsv`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secondstage.chart import bar, histogram
from secondstage.collection import Documents
from secondstage.files import write_json
from secondstage.lists import DROPPED, IGNORED, NEGATIVE, POSITIVE, TrainingList
from secondstage.page import add_charts, environment, number

from .audit import audit
from .review import label, one_line, write_suspicious

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATE = Path(__file__).with_name("audit.html.j2")
Record = Mapping[str, Any]
# How much of a text the page shows.
SHOWN = 400


def write_audit(
    folder: Path,
    lists: Iterable[TrainingList],
    queries: Mapping[str, str],
    documents: Documents,
    *,
    negatives: int,
    teachers: Sequence[str] = (),
    notes: Sequence[str] = (),
    counts: Mapping[str, Any] | None = None,
    positive_from: int = 1,
) -> dict[str, Any]:
    """Audit the lists and write `audit.json`, `audit.html` and `suspicious.tsv` into a folder.

    Args:
        folder: that of the training lists.
        lists: with all their candidates.
        queries: text by query id.
        documents: the corpus.
        negatives: how many were asked for, per list.
        teachers: their names, in the order of `Candidate.teacher_scores`.
        notes: sentences that a reader should see, e.g. what was left out before there were lists.
        counts: what mining counted.
        positive_from: the lowest relevance that makes a positive.

    Returns:
        What `audit.json` holds.
    """
    record = audit(lists, negatives=negatives, teachers=teachers, positive_from=positive_from)
    record |= {"notes": list(notes), "counts": dict(counts or {})}
    write_json(folder / "audit.json", record)
    write_suspicious(folder / "suspicious.tsv", record["suspicious"], queries, documents)
    texts = [_texts(suspect, queries, documents) for suspect in record["suspicious"]]
    (folder / "audit.html").write_text(render_audit(record, texts), encoding="utf-8")
    return record


def render_audit(record: Record, texts: Sequence[Record]) -> str:
    """The audit as HTML: no script, nothing from the network, light and dark.

    Args:
        record: what `audit.json` holds.
        texts: of each suspicious candidate its query, title and text.
    """
    suspects = [suspect | shown for suspect, shown in zip(record["suspicious"], texts, strict=True)]
    return _template().render(audit=record, suspects=suspects)


def headline(record: Record) -> str:
    """What the lists hold, in a sentence."""
    lists, roles = record["lists"], record["roles"]
    if not lists:
        return "There are no training lists."
    positives, negatives = (roles.get(role, 0) / lists for role in (POSITIVE, NEGATIVE))
    share = number(positives, 1), number(negatives, 1)
    noun = "training list has" if lists == 1 else "training lists have, on average,"
    return f"{lists:,} {noun} {share[0]} positives and {share[1]} negatives."


def score_plot(record: Record, scorer: str, other: str) -> str:
    """Scaled scores of the positives against those of another group: "negative" or "left out"."""
    groups = {
        "positives": _counts(record, scorer, (POSITIVE,)),
        other: _counts(record, scorer, (NEGATIVE,) if other == "negatives" else (DROPPED, IGNORED)),
    }
    if not all(map(sum, groups.values())):
        return ""
    title = f"Scaled scores of positives and of {other}"
    return histogram(title, record["edges"], groups, x_label="score, 0 … 1 in each list")


def raw_plot(found: Record, name: str) -> str:
    """A teacher's scores as they came: positives against all others."""
    sides: dict[str, list[int]] = {"positives": [], "others": []}
    for role, counts in found["groups"].items():
        side = "positives" if role == POSITIVE else "others"
        sides[side] = [a + b for a, b in zip(sides[side] or [0] * len(counts), counts, strict=True)]
    return histogram(f"Scores of the teacher {name}", found["edges"], sides, x_label="score, as the teacher gave it")


def _counts(record: Record, scorer: str, roles: Sequence[str]) -> list[int]:
    bins = [row[scorer]["histogram"] for row in record["decisions"] if row["role"] in roles and row[scorer]]
    return [sum(column) for column in zip(*bins, strict=True)]


def _texts(suspect: Record, queries: Mapping[str, str], documents: Documents) -> dict[str, str]:
    document = documents.by_id(suspect["doc_id"])
    title, text = one_line(document.title, SHOWN), one_line(document.text, SHOWN)
    return {"query": one_line(queries[suspect["query_id"]], SHOWN), "title": title, "text": text}


@cache
def _template() -> Template:
    found = environment()
    found.filters["label"] = label
    found.globals["headline"] = headline
    add_charts(found, score_plot, raw_plot, bar)
    return found.from_string(TEMPLATE.read_text(encoding="utf-8"))
