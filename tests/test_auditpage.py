"""The audit's files: complete, sound HTML that asks nothing of the network, and texts that cannot hurt it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from secondstage.collection import Documents
from secondstage.lists import DROPPED, NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.mine.auditpage import render_audit, write_audit
from secondstage.mine.review import read_reviewed

HOSTILE = "</style><script>alert(1)</script><img src=https://example.org/x>"
VOID = ("meta", "br", "img", "link")


class Page(HTMLParser):
    """Tags that are open at the end, and all that were seen."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str | None] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "style")]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack:
            self.text += f" {data.strip()}"


def lists(count: int = 12) -> list[TrainingList]:
    def one(i: int, doc: int, role: str, decision: str, rank: int, teacher: float) -> Candidate:
        return Candidate(
            f"d{doc}",
            int(role == POSITIVE),
            role == POSITIVE,
            "bm25",
            rank,
            9.0 - rank,
            role,
            decision,
            teacher,
            (teacher,),
        )

    return [
        TrainingList(
            f"q{i}",
            (
                one(i, 0, POSITIVE, "qrels", 1 + i % 2, 3.0),
                one(i, 1, NEGATIVE, HOSTILE, 2 - i % 2, 5.0),
                one(i, 2, DROPPED, "share", 3, -2.0),
            ),
        )
        for i in range(count)
    ]


@pytest.fixture
def written(tmp_path: Path, as_documents: Callable[[Sequence[str]], Documents]) -> Path:
    queries = {f"q{i}": f"{HOSTILE} {i}" for i in range(12)}
    documents = as_documents([HOSTILE, "=1+1", "plain"])
    write_audit(
        tmp_path,
        lists(),
        queries,
        documents,
        negatives=2,
        teachers=[HOSTILE],
        notes=["a note & more"],
        counts={"train_queries": 12},
    )
    return tmp_path


def test_the_page_is_whole_and_asks_nothing_of_the_network(written: Path) -> None:
    html = (written / "audit.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.stack == []
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert page.addresses == []
    assert not re.search(r"url\(|@import", html)
    assert "default-src 'none'" in html
    assert not re.search(r"\b(None|nan|undefined)\b", page.text)
    assert HOSTILE in page.text  # as text


def test_the_page_says_what_was_found(written: Path) -> None:
    html = (written / "audit.html").read_text(encoding="utf-8")
    text = " ".join(Page(html).text.split())
    assert "12 training lists have, on average, 1.0 positives and 1.0 negatives." in text
    assert "a note & more" in text
    assert "12 negatives are missing" in text
    assert "train queries 12" in text
    assert "the teacher puts it 0.29 above the best positive" in text
    assert html.count('<details class="case">') == 12
    # Scaled scores of both scorers, kept and left out, and the one teacher's own.
    assert html.count('<svg class="chart"') == 5


def test_the_files_say_the_same(written: Path) -> None:
    record = json.loads((written / "audit.json").read_text(encoding="utf-8"))
    assert record["lists"] == 12
    assert record["counts"] == {"train_queries": 12}
    assert record["notes"] == ["a note & more"]
    assert {row["doc_id"] for row in record["suspicious"]} == {"d1"}
    lines = (written / "suspicious.tsv").read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 13
    assert "\t'=1+1\t" in lines[1]
    (written / "reviewed.tsv").write_text("\n".join([lines[0], *(f"{line}yes" for line in lines[1:]), ""]))
    assert read_reviewed(written / "reviewed.tsv") == {f"q{i}": {"d1": 1} for i in range(12)}


def test_what_is_suggested_is_what_makes_a_positive(tmp_path: Path, as_documents: Callable[..., Documents]) -> None:
    queries = {f"q{i}": "text" for i in range(12)}
    record = write_audit(tmp_path, lists(), queries, as_documents(["a", "b", "c"]), negatives=1, positive_from=2)
    assert {row["suggested"] for row in record["suspicious"]} == {2}
    assert "suggested 2" in (tmp_path / "audit.html").read_text(encoding="utf-8")
    header, *rows = (
        line.split("\t") for line in (tmp_path / "suspicious.tsv").read_text(encoding="utf-8-sig").splitlines()
    )
    assert {row[header.index("suggested")] for row in rows} == {"2"}


def test_two_audits_are_the_same(written: Path, tmp_path: Path, as_documents: Callable[..., Documents]) -> None:
    again = tmp_path / "again"
    again.mkdir()
    queries = {f"q{i}": f"{HOSTILE} {i}" for i in range(12)}
    documents = as_documents([HOSTILE, "=1+1", "plain"])
    options = {"negatives": 2, "teachers": [HOSTILE], "notes": ["a note & more"], "counts": {"train_queries": 12}}
    write_audit(again, reversed(lists()), queries, documents, **options)  # type: ignore[arg-type]
    for name in ("audit.json", "audit.html", "suspicious.tsv"):
        assert (again / name).read_bytes() == (written / name).read_bytes()


def test_without_a_teacher_and_without_lists_there_is_a_page(
    tmp_path: Path, as_documents: Callable[..., Documents]
) -> None:
    plain = [
        TrainingList(q, tuple(c._replace(teacher_score=None, teacher_scores=()) for c in candidates))
        for q, candidates in lists()
    ]
    for count, charts in ((12, 2), (0, 0)):
        record = write_audit(
            tmp_path, plain[:count], {f"q{i}": "text" for i in range(12)}, as_documents(["a", "b", "c"]), negatives=1
        )
        html = (tmp_path / "audit.html").read_text(encoding="utf-8")
        page = Page(html)
        assert page.stack == []
        assert html.count('<svg class="chart"') == charts
        assert "Kendall" not in page.text
        assert record["lists"] == count
    assert "There are no training lists." in page.text


def test_one_list_is_told_in_the_singular() -> None:
    record = {"lists": 1, "roles": {"positive": 1, "negative": 16}, "suspicious": []}
    assert "1 training list has 1.0 positives and 16.0 negatives." in render_audit(record, [])
