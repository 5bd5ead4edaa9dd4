"""Rows in JSON lines and Parquet: what was written is read, also by `datasets`; a file is whole or not there."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secondstage.errors import Faults, UserError
from secondstage.exchange import rows
from secondstage.exchange.rows import check_new, read_rows, write_rows

ROWS: list[dict[str, Any]] = [
    {"query": "a “question” 问\u2028", "docs": ["one", "two\nlines"], "scores": [0.5, -1.25]},
    {"query": "another", "docs": [], "scores": []},
    {"query": "third", "docs": ["x"], "scores": [1.0]},
]


def read(path: Path) -> list[dict[str, Any]]:
    faults = Faults("rows")
    found = [dict(row) for _, row in read_rows(path, faults)]
    assert faults.count == 0
    return found


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_what_was_written_is_read(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ROWS_PER_BATCH", 2)
    path = tmp_path / "new" / f"rows{suffix}"
    assert write_rows(path, iter(ROWS)) == 3
    assert read(path) == ROWS
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("suffix", "builder"), [(".jsonl", "json"), (".parquet", "parquet")])
def test_datasets_reads_them(tmp_path: Path, suffix: str, builder: str) -> None:
    from datasets import load_dataset

    path = tmp_path / f"rows{suffix}"
    write_rows(path, ROWS)
    found = load_dataset(builder, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert list(found) == ROWS
    assert found.column_names == list(ROWS[0])


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_failure_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    def failing() -> Iterator[dict[str, Any]]:
        yield from ROWS
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_rows(tmp_path / f"rows{suffix}", failing())
    with pytest.raises(UserError, match="nothing to export"):
        write_rows(tmp_path / f"rows{suffix}", [])
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_and_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    check_new(path)
    path.write_text("")
    with pytest.raises(UserError, match="is there already and is left alone"):
        check_new(path)
    with pytest.raises(UserError, match=r"rows\.csv is neither JSON lines nor Parquet"):
        check_new(tmp_path / "rows.csv")


def test_json_lines_may_be_gzipped_and_faults_have_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"query": "a"}\n\n[1]\n{"query": \n{"query": "b"}\n'))
    faults = Faults("rows")
    assert [row["query"] for _, row in read_rows(path, faults)] == ["a", "b"]
    assert [message.split(": ")[0].rpartition(":")[2] for message in faults.messages] == ["3", "4"]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no file"):
        read(tmp_path / "rows.jsonl")
    (tmp_path / "rows.parquet").write_text("no parquet")
    with pytest.raises(UserError, match="is no whole Parquet file"):
        read(tmp_path / "rows.parquet")
