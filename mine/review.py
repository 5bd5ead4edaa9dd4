"""The reviewable sample: `suspicious.tsv` is written, a person fills in its last column, and it is read again."""

from __future__ import annotations

import csv
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from secondstage.collection import Documents
from secondstage.errors import Faults, UserError
from secondstage.intake import MAX_RELEVANCE
from secondstage.progress import say
from secondstage.synthetic import ID_PREFIX

REVIEWED = "reviewed"
IDS = ("query_id", "doc_id")
COLUMNS = (*IDS, "label", "suggested", "why", "teacher_score", "score", "rank", "query", "title", "text", REVIEWED)
# What a spreadsheet would take for a formula is written after an apostrophe.
FORMULA = ("=", "+", "-", "@")
LONGEST = 600


def write_suspicious(
    path: Path, suspects: Iterable[Mapping[str, Any]], queries: Mapping[str, str], documents: Documents
) -> None:
    """Write the sample: one line a candidate, tab-separated, with its texts and an empty column `reviewed`.

    It opens in spreadsheets: it begins with a byte order mark, texts are on one line and cut, cells that begin like a
    formula get an apostrophe in front.

    Args:
        path: the file.
        suspects: the entries of `audit()["suspicious"]`.
        queries: text by query id.
        documents: the corpus.
    """
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, dialect="excel-tab", lineterminator="\n")
        writer.writerow(COLUMNS)
        for suspect in suspects:
            document = documents.by_id(suspect["doc_id"])
            texts = [one_line(text) for text in (queries[suspect["query_id"]], document.title, document.text)]
            numbers = [suspect["teacher_score"], suspect["score"], suspect["rank"]]
            writer.writerow(
                [
                    *(guarded(suspect[name]) for name in IDS),
                    guarded(label(suspect)),
                    suspect["suggested"],
                    guarded(suspect["why"]),
                    *("" if number is None else f"{number:.6g}" for number in numbers),
                    *map(guarded, texts),
                    "",
                ]
            )


def label(suspect: Mapping[str, Any]) -> str:
    """The current role of a candidate, why it has it, and the relevance of a positive."""
    role, decision = suspect["role"], suspect["decision"]
    name = f"{role} {suspect['relevance']}" if suspect["relevance"] else role
    return f"{name} ({decision})" if decision else name


def one_line(text: str, most: int = LONGEST) -> str:
    """A text on one line, cut."""
    line = " ".join(text.replace("\0", " ").split())
    return line if len(line) <= most else line[: most - 1] + "…"


def guarded(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip("'").startswith(FORMULA) else text


def unguarded(text: str) -> str:
    """What `guarded` was given."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA) else text


def read_reviewed(
    path: Path,
    query_ids: Container[str] | None = None,
    doc_ids: Container[str] | None = None,
    *,
    positive_from: int = 1,
    awaited: bool = False,
) -> dict[str, dict[str, int]]:
    """The relevance that a person gave, by query id and document id, of the rows whose `reviewed` is filled in.

    Args:
        path: an edited `suspicious.tsv`; only its columns query_id, doc_id and reviewed are read. A whole number from
            0 is a relevance, yes is the lowest that makes a positive, no is 0; an empty cell is none.
        query_ids: the queries there are; none to accept any. Rows of a synthetic query that is not made any more are
            left out, and it is said how many.
        doc_ids: the documents there are; none to accept any.
        positive_from: the lowest relevance that makes a positive.
        awaited: whether synthetic queries are not made yet: nothing is said of those that are not there.

    Raises:
        UserError: with all faults and their lines: no such relevance, unknown ids, two answers for one pair; or the
            file is not there, not UTF-8, or lacks a column.
    """
    faults = Faults(f"reviewed sample {path}")
    found: dict[str, dict[str, int]] = {}
    left = 0
    for number, row in _rows(path):
        query_id, doc_id = (unguarded(row[name]) for name in IDS)
        answer = row[REVIEWED].strip()
        if not answer:
            continue
        # Of a query that was made from a document: another run makes others.
        if query_ids is not None and query_id not in query_ids and query_id.startswith(ID_PREFIX):
            left += 1
            continue
        for noun, value, known in (("query", query_id, query_ids), ("document", doc_id, doc_ids)):
            if known is not None and value not in known:
                faults.add(f"line {number}: there is no {noun} {value!r}")
        relevance = _relevance(answer, positive_from)
        if relevance is None:
            faults.add(f"line {number}: reviewed {answer!r} is no relevance: give 0, 1, 2, …, yes or no, or nothing")
            continue
        if found.setdefault(query_id, {}).setdefault(doc_id, relevance) != relevance:
            faults.add(f"line {number}: query {query_id!r}, document {doc_id!r} has another answer above")
    faults.raise_if_any(
        "Mend these cells; ids must be as they were (a spreadsheet may have taken them for numbers: import as text)"
    )
    if left and not awaited:
        say(f"  {path}: {left} reviewed rows are left out: their synthetic queries are not made any more")
    return found


def _relevance(answer: str, positive_from: int) -> int | None:
    """What a cell means; none if it is no relevance."""
    words = {"yes": positive_from, "no": 0}
    if answer.lower() in words:
        return words[answer.lower()]
    return int(answer) if answer.isascii() and answer.isdigit() and int(answer) <= MAX_RELEVANCE else None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows by column, with their line numbers; short rows are filled up."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, dialect="excel-tab", restval="")
            missing = [name for name in (*IDS, REVIEWED) if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path} has no column {', '.join(missing)}: give an edited suspicious.tsv, with tabs")
            for row in reader:
                yield reader.line_num, row
    except FileNotFoundError:
        raise UserError(f"{path} is missing: give the suspicious.tsv of an audit, edited") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8 text with tabs") from None
    except csv.Error as error:
        raise UserError(f"{path} is no table with tabs: {error}") from None
