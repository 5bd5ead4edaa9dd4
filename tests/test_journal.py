"""The journal: what is in it, what is not, and what a disk that fails does."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from secondstage.errors import UserError
from secondstage.serve.server import journal as module
from secondstage.serve.server.appending import Appending
from secondstage.serve.server.journal import Journal, numbered, query_digest

QUERY = "A private Question, about chess"


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_queries_are_digests_that_tell_repeats(tmp_path: Path) -> None:
    path, counts = tmp_path / "journal.jsonl", Counter[str]()
    journal = Journal(path, count=lambda outcome: counts.update([outcome]))
    for query in (QUERY, "a private question about CHESS", "another"):
        journal.write({"kind": "search", "query": query, "scores": [1.5]})
    journal.close()
    opened, one, two, other = records(path)
    assert opened["kind"] == "opened"
    assert one["query"] == two["query"] != other["query"]
    assert "chess" not in path.read_text().lower()
    assert one["scores"] == [1.5]
    assert one["time"].endswith("+00:00")
    assert counts == {"written": 3}
    # The key is drawn anew, and is nowhere in the file: nobody can try words.
    again = Journal(path)
    again.write({"query": QUERY})
    again.close()
    assert records(path)[-2]["kind"] == "opened"
    assert records(path)[-1]["query"] not in (one["query"], query_digest(QUERY, b""))


def test_queries_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", queries=True)
    journal.write({"query": "half a pair \ud800, wörter"})
    journal.close()
    assert records(tmp_path / "journal.jsonl")[1]["query"] == "half a pair \ud800, wörter"


def test_files_are_rotated_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, mib=600 / (1 << 20), kept=2)
    for number in range(40):
        journal.write({"number": number, "query": QUERY, "text": "x" * 100})
    journal.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["journal.jsonl", "journal.jsonl.1", "journal.jsonl.2"]
    files = [numbered(path, 2), numbered(path, 1), path]
    numbers = [record["number"] for file in files for record in records(file) if "number" in record]
    assert numbers == list(range(numbers[0], 40))
    assert all(file.stat().st_size < 600 + 300 for file in files)
    # Every file has a key of its own.
    digests = [{record["query"] for record in records(file) if "query" in record} for file in files]
    assert all(len(each) == 1 for each in digests)
    assert len(set.union(*digests)) == 3


def test_a_full_disk_is_counted_and_said_once_and_then_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counts, append, full = Counter[str](), Appending.append, threading.Event()

    def fails(self: Appending, line: bytes) -> None:
        if full.is_set():
            raise OSError(28, "No space left on device")
        append(self, line)

    monkeypatch.setattr(Appending, "append", fails)
    handled = threading.Semaphore(0)

    def count(outcome: str) -> None:
        counts[outcome] += 1
        handled.release()

    journal = Journal(tmp_path / "journal.jsonl", count=count)
    full.set()
    for number in range(3):
        journal.write({"number": number})
    for _ in range(3):
        assert handled.acquire(timeout=10)
    full.clear()
    journal.write({"number": 3})
    journal.close()
    assert counts == {"failed": 3, "written": 1}
    assert [record.get("number") for record in records(tmp_path / "journal.jsonl")] == [None, 3]
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_what_is_no_json_is_counted_and_the_thread_lives(tmp_path: Path) -> None:
    counts = Counter[str]()
    journal = Journal(tmp_path / "journal.jsonl", count=lambda outcome: counts.update([outcome]))
    journal.write({"scores": [float("nan")]})
    journal.write({"scores": [object()]})
    journal.write({"scores": [1.0]})
    journal.close()
    assert counts == {"failed": 2, "written": 1}


def test_a_disk_that_hangs_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, hangs, append = Counter[str](), threading.Event(), Appending.append
    monkeypatch.setattr(module, "HELD", 5)
    reached = threading.Event()

    def waits(self: Appending, line: bytes) -> None:
        reached.set()
        hangs.wait(10)
        append(self, line)

    monkeypatch.setattr(Appending, "append", waits)
    journal = Journal(tmp_path / "journal.jsonl", count=lambda outcome: counts.update([outcome]))
    journal.write({"number": 0})
    assert reached.wait(10)  # the first is at the disk, five wait
    for number in range(1, 20):
        journal.write({"number": number})
    assert counts == {"dropped": 14}
    hangs.set()
    journal.close()
    assert counts == {"dropped": 14, "written": 6}
    assert [record["number"] for record in records(tmp_path / "journal.jsonl")[1:]] == [0, 1, 2, 3, 4, 5]


def test_a_path_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="journal="):
        Journal(tmp_path)
