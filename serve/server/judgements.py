"""What people say of search results, appended to a file: judgements, and clicks."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timezone
from pathlib import Path

from .appending import open_appending
from .signals import Judged


class Judgements:
    """The file of judgements, one JSON object a line. Several threads may add to it."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it; `UserError` if that cannot be done."""
        self._file, self._lock = open_appending(path, "judgements"), threading.Lock()

    def add(self, judged: Judged) -> None:
        """Keep one; when this returns, the disk has it.

        Raises:
            OSError: it could not be written, or the disk did not say that it has it.
        """
        now = datetime.now(timezone.utc)
        record = {
            "time": now.isoformat(timespec="milliseconds"),
            "kind": judged.kind,
            "id": judged.search_id,
            "query": judged.query,
            "doc_id": judged.doc_id,
            "relevance": judged.relevance,
        }
        # Not `ensure_ascii=False`: half a surrogate pair could not be encoded.
        line = json.dumps(record).encode() + b"\n"
        with self._lock:
            self._file.append(line)
            self._file.sync()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()
