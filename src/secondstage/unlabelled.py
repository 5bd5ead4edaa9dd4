"""Unlabelled queries: texts that nobody judged a document for; a teacher's scores are all that is known of their lists.

`mine` writes those that it took as BEIR JSON lines; training reads their texts there, and the proof what training met.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from .errors import UserError

UNLABELLED = "unlabelled.jsonl"


def write_unlabelled(path: Path, queries: Mapping[str, str]) -> None:
    """Write texts by id, one JSON line each."""
    with path.open("w", encoding="utf-8") as file:
        for query_id, text in queries.items():
            file.write(json.dumps({"_id": query_id, "text": text}, ensure_ascii=False) + "\n")


def read_unlabelled(folder: Path) -> dict[str, str]:
    """The texts by id of the unlabelled queries beside training lists; none where there is no such file.

    Raises:
        UserError: a line of the file is no query.
    """
    path, queries = folder / UNLABELLED, {}
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
                queries[str(record["_id"])] = str(record["text"])
            except (ValueError, TypeError, KeyError):
                raise UserError(f"{path}:{number} is no query: make the lists again") from None
    return queries
