"""A run in one Arrow file, with who found each document, which TREC's format has no column for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError
from .files import writing_whole
from .run import Ranking, Run


def write_run(path: Path, run: Run) -> None:
    """Write a run through a temporary file, so that a kill never leaves a part of it."""
    import pyarrow as pa

    text = pa.large_string()
    rankings = list(run.values())
    columns = {
        "query_id": pa.array(list(run), text),
        "doc_ids": pa.array([ranking.doc_ids for ranking in rankings], pa.list_(text)),
        "scores": pa.array([ranking.scores for ranking in rankings], pa.list_(pa.float32())),
        "retrievers": pa.array([ranking.retrievers for ranking in rankings], pa.list_(text)),
    }
    table = pa.table(columns).replace_schema_metadata({"name": run.name})
    with (
        writing_whole(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)


def read_run(path: Path) -> Run:
    """Read what `write_run` wrote.

    Raises:
        UserError: the file is none of these.
    """
    import pyarrow as pa

    try:
        table = pa.ipc.open_file(str(path)).read_all()
        name = table.schema.metadata[b"name"].decode()
        columns: list[list[Any]] = [table.column(i).to_pylist() for i in range(4)]
    except (pa.ArrowException, OSError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path} holds no run that this version can read ({error}): delete it") from None
    return Run(
        name,
        {
            query_id: Ranking(tuple(doc_ids), np.array(scores, np.float32), tuple(retrievers))
            for query_id, doc_ids, scores, retrievers in zip(*columns, strict=True)
        },
    )
