"""The reviewable sample: written, edited as in a spreadsheet, and read again; every fault at once."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.collection import Documents
from secondstage.errors import UserError
from secondstage.mine.review import (
    COLUMNS,
    FORMULA,
    LONGEST,
    guarded,
    label,
    one_line,
    read_reviewed,
    unguarded,
    write_suspicious,
)

TEXTS = [
    '=HYPERLINK("https://example.org")',
    "two\nlines\tand a tab\0",
    'says "quoted"',
    "-1 + 1 = 0",
    "سؤال 质问 é",
    "long " * 500,
]
Rows = list[dict[str, str]]


def suspect(i: int, query_id: str = "q") -> dict[str, Any]:
    return {
        "query_id": query_id,
        "doc_id": f"d{i}",
        "role": "negative",
        "decision": "sampled",
        "relevance": 0,
        "suggested": 1,
        "why": "false negative?",
        "teacher_score": None if i == 0 else -1.25,
        "score": 0.5,
        "rank": i + 1,
    }


@pytest.fixture
def sample(tmp_path: Path, as_documents: Callable[[Sequence[str]], Documents]) -> Path:
    path = tmp_path / "suspicious.tsv"
    suspects = [suspect(i, "=q") for i in range(len(TEXTS))]
    write_suspicious(path, suspects, {"=q": "@SUM(A1)"}, as_documents(TEXTS))
    return path


def rows_of(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, dialect="excel-tab"))


def save(path: Path, rows: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, dialect="excel-tab")
        writer.writerow(COLUMNS)
        writer.writerows([row[name] for name in COLUMNS] for row in rows)


def edited(path: Path, **answers: str) -> Path:
    save(path, [row | {"reviewed": answers.get(row["doc_id"], "")} for row in rows_of(path)])
    return path


def test_a_line_has_what_a_person_needs(sample: Path) -> None:
    rows = rows_of(sample)
    assert len(sample.read_text(encoding="utf-8").splitlines()) == len(TEXTS) + 1
    assert tuple(rows[0]) == COLUMNS
    assert [row["text"] for row in rows] == [guarded(one_line(text)) for text in TEXTS]
    assert [row["teacher_score"] for row in rows[:2]] == ["", "-1.25"]
    assert rows[0] | {"text": ""} == {
        "query_id": "'=q",
        "doc_id": "d0",
        "label": "negative (sampled)",
        "suggested": "1",
        "why": "false negative?",
        "teacher_score": "",
        "score": "0.5",
        "rank": "1",
        "query": "'@SUM(A1)",
        "title": "",
        "text": "",
        "reviewed": "",
    }


def test_no_text_begins_like_a_formula(sample: Path) -> None:
    texts = [row[name] for row in rows_of(sample) for name in ("query_id", "doc_id", "query", "title", "text")]
    assert not [text for text in texts if text.startswith(FORMULA)]
    assert max(map(len, texts)) <= LONGEST + 1


@given(st.text(st.sampled_from("'=+-@ab")))
def test_a_guard_comes_off_again(text: str) -> None:
    assert unguarded(guarded(text)) == text
    assert not guarded(text).startswith(FORMULA)


def test_what_was_filled_in_is_read(sample: Path) -> None:
    edited(sample, d0="1", d1="0", d2=" Yes ", d3="no", d4="3")
    found = read_reviewed(sample, {"=q"}, {f"d{i}" for i in range(len(TEXTS))})
    assert found == {"=q": {"d0": 1, "d1": 0, "d2": 1, "d3": 0, "d4": 3}}


def test_yes_is_the_lowest_relevance_of_a_positive(sample: Path) -> None:
    edited(sample, d0="yes", d1="no", d2="1", d3="3")
    assert read_reviewed(sample, positive_from=2) == {"=q": {"d0": 2, "d1": 0, "d2": 1, "d3": 3}}


def test_rows_of_synthetic_queries_that_are_gone_are_counted_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "reviewed.tsv"
    rows = ["synthetic-1\td1\tyes", "synthetic-2\td1\tyes", "synthetic-2\td9\tmaybe", "synthetic-3\td1\t", "q1\td1\t1"]
    path.write_text("\n".join(["query_id\tdoc_id\treviewed", *rows]), encoding="utf-8")
    found = read_reviewed(path, {"q1", "synthetic-1"}, {"d1"})
    assert found == {"synthetic-1": {"d1": 1}, "q1": {"d1": 1}}
    assert "2 reviewed rows are left out" in capsys.readouterr().err
    path.write_text("query_id\tdoc_id\treviewed\nsynthetic-1\td9\t1\nq9\td1\t1\n", encoding="utf-8")
    with pytest.raises(UserError, match="2 faults"):
        read_reviewed(path, {"q1", "synthetic-1"}, {"d1"})


def test_nothing_filled_in_is_nothing_reviewed(sample: Path) -> None:
    assert read_reviewed(sample) == {}


def test_columns_may_be_moved_left_out_and_added(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.tsv"
    path.write_bytes("reviewed\tcomment\tdoc_id\tquery_id\r\n2\tgood\td1\tq1\r\n\r\n\t\td2\tq1\r\n".encode("utf-8-sig"))
    assert read_reviewed(path) == {"q1": {"d1": 2}}


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.tsv"
    lines = [
        "q1\td1\tmaybe",
        "q1\td1\t-1",
        "q9\td1\t1",
        "q1\td9\t0",
        "q1\td2\t1",
        "q1\td2\t0",
        "q9\td9\t",
        "q1\td3\t1.0",
    ]
    path.write_text("\n".join(["query_id\tdoc_id\treviewed", *lines]), encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_reviewed(path, {"q1"}, {"d1", "d2", "d3"})
    said = str(error.value)
    assert "6 faults" in said
    for part in (
        "line 2: reviewed 'maybe' is no relevance",
        "line 3: reviewed '-1' is no relevance",
        "line 4: there is no query 'q9'",
        "line 5: there is no document 'd9'",
        "line 7: query 'q1', document 'd2' has another answer above",
        "line 9: reviewed '1.0' is no relevance",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing: give the suspicious.tsv"),
        (b"query_id,doc_id,reviewed\nq,d,1\n", "has no column query_id, doc_id, reviewed"),
        (b"query_id\tdoc_id\nq\td\n", "has no column reviewed"),
        (b"", "has no column"),
        ("query_id\tdoc_id\treviewed\n".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "reviewed.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_reviewed(path)


@pytest.mark.parametrize(
    ("role", "decision", "relevance", "expected"),
    [
        ("positive", "qrels", 2, "positive 2 (qrels)"),
        ("dropped", "share", 0, "dropped (share)"),
        ("negative", "", 0, "negative"),
    ],
)
def test_a_label_is_role_relevance_and_reason(role: str, decision: str, relevance: int, expected: str) -> None:
    assert label({"role": role, "decision": decision, "relevance": relevance}) == expected
