"""Rows of a data set in one file, JSON lines or Parquet: what `datasets.load_dataset` reads. Both are streamed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from secondstage.errors import Faults, UserError
from secondstage.files import writing_whole
from secondstage.sources.records import json_lines

Row = Mapping[str, Any]
SUFFIXES = (".jsonl", ".json", ".parquet")
ROWS_PER_BATCH = 1024


def check_new(path: Path) -> None:
    """Raise `UserError` if a file cannot be written here: another kind is wanted, or something is there already."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is neither JSON lines nor Parquet: give a name that ends in {' or '.join(SUFFIXES)}")
    if path.exists():
        raise UserError(f"{path} is there already and is left alone: choose another name, or delete it")


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write rows of the same columns, whole or not at all, as the file's suffix says; return how many.

    Raises:
        UserError: there are none.
    """
    with writing_whole(path) as temporary:
        count = (_write_parquet if path.suffix == ".parquet" else _write_json)(temporary, rows)
        if not count:
            raise UserError("no list has a positive and enough negatives: there is nothing to export")
    return count


def _write_json(path: Path, rows: Iterable[Row]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_parquet(path: Path, rows: Iterable[Row]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source, count = iter(rows), 0
    first = list(islice(source, ROWS_PER_BATCH))
    if not first:
        return 0
    schema = pa.Table.from_pylist(first).schema
    with pq.ParquetWriter(str(path), schema) as writer:
        for part in chain([first], iter(lambda: list(islice(source, ROWS_PER_BATCH)), [])):
            writer.write_table(pa.Table.from_pylist(part, schema))
            count += len(part)
    return count


def read_rows(path: Path, faults: Faults) -> Iterator[tuple[str, Row]]:
    """The rows of a file of JSON lines (plain or gzipped) or Parquet, each with its place; the rest are faults.

    Raises:
        UserError: the file is not there or cannot be read.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file: give a file of JSON lines, plain or with .gz, or Parquet")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
    else:
        yield from json_lines(path, faults)


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(str(path)) as file:
            for batch in file.iter_batches(ROWS_PER_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except pa.ArrowException as error:
        raise UserError(f"{path} is no whole Parquet file (read to row {number}): {error}") from None
