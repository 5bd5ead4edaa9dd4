"""Synthetic queries: what is written is read, and whom they are answered by."""

from __future__ import annotations

from pathlib import Path

import pytest

from secondstage.errors import UserError
from secondstage.synthetic import SyntheticQuery, read_records, read_synthetic, synthetic_qrels, write_synthetic

KEPT = SyntheticQuery("synthetic-1", "Wie backt man Brot?", "d0", "question", "local tiny", rank=2, teacher_rank=1)
SAME = SyntheticQuery("synthetic-2", "wie backt man brot", "d2", "question", "local tiny", rank=1)
SAME = SAME.dropped("same_text", "duplicate of synthetic-1")._replace(same_as="synthetic-1")
LOST = SyntheticQuery("synthetic-3", "\u2028 線", "d1", "claim", "local tiny").dropped(
    "round_trip", "not found in top 10"
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "synthetic.jsonl"
    write_synthetic(path, [KEPT, SAME, LOST])
    assert list(read_records(path)) == [KEPT, SAME, LOST]
    assert read_synthetic(path) == {"synthetic-1": "Wie backt man Brot?"}
    assert len(path.read_text(encoding="utf-8").split("\n")) == 4


@pytest.mark.parametrize("line", ["{}", "[1]", "no", '{"query_id": "q", "size": 1}'])
def test_a_line_that_is_no_query_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "synthetic.jsonl"
    write_synthetic(path, [KEPT])
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"synthetic\.jsonl:2 is no synthetic query"):
        read_synthetic(path)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl is missing"):
        read_synthetic(tmp_path / "none.jsonl")


def test_a_document_that_gave_the_same_query_answers_it_too() -> None:
    assert synthetic_qrels([KEPT, SAME, LOST]) == {"synthetic-1": {"d0": 1, "d2": 1}}
    # The query that it repeats was dropped for another reason.
    assert synthetic_qrels([KEPT.dropped("near_duplicate", ""), SAME]) == {}
