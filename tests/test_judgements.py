"""Judgements on disk."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from secondstage.errors import UserError
from secondstage.serve.feedback.events import read_events
from secondstage.serve.server.judgements import Judgements
from secondstage.serve.server.signals import Judged


def test_several_threads_write_whole_lines_that_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "judgements.jsonl"
    file = Judgements(path)
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(
            lambda i: file.add(Judged(f"s{i}", f"wörter\n{i}" * 50, f"d{i}", i % 4, "judgement")), range(80)
        ):
            pass
    file.close()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(record["doc_id"] for record in records) == sorted(f"d{i}" for i in range(80))
    found = read_events([path])
    assert found.broken == 0
    said = {each.doc_id: each for each in found.said}["d7"]
    assert (said.search_id, said.query, said.relevance, said.kind) == ("s7", "wörter\n7" * 50, 3, "judgement")


def test_it_is_on_the_disk_before_the_caller_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def sync(handle: int) -> None:
        synced.append(os.fstat(handle).st_size)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", sync)
    file = Judgements(tmp_path / "judgements.jsonl")
    file.add(Judged(None, "half a pair \ud800", "d1", 1, "click"))
    assert synced == [(tmp_path / "judgements.jsonl").stat().st_size]
    assert synced[0] > 0
    file.close()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="judgements="):
        Judgements(tmp_path)
