"""Reading judgements, clicks and journals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from secondstage.errors import UserError
from secondstage.serve.feedback.events import Said, read_events


def judgement(**changes: Any) -> dict[str, Any]:
    record = {"time": "2026-01-01T00:00:00.000+00:00", "kind": "judgement", "id": "s1", "query": "q", "doc_id": "d"}
    return {**record, "relevance": 2, **changes}


def write(path: Path, *records: object) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_files_may_come_in_any_order(tmp_path: Path) -> None:
    later, earlier = judgement(time="2026-02-01T00:00:00.000+00:00", relevance=0), judgement()
    one = write(tmp_path / "one", later)
    two = write(tmp_path / "two", {"kind": "opened"}, {"kind": "search", "id": "s1", "shown": ["a", "d"]}, earlier)
    found = read_events([one, two])
    assert [each.relevance for each in found.said] == [2, 0]
    assert found.said[0] == Said("2026-01-01T00:00:00.000000+00:00", "judgement", "s1", "q", "d", 2)
    assert found == read_events([two, one])
    assert found.shown == {"s1": ["a", "d"]}
    assert found.broken == 0


@pytest.mark.parametrize(
    "record",
    [
        '{"kind": "judgem',
        "[]",
        judgement(query=" "),
        judgement(query=None),
        judgement(doc_id=7.5),
        judgement(doc_id=True),
        {"kind": "search", "id": "s1", "shown": [{"doc_id": "a"}]},
        {"kind": "search", "shown": ["a"]},
        {"kind": "search", "id": "s1", "shown": "a"},
        {"kind": "search", "id": "s1", "shown": None},
        judgement(relevance=-1),
        judgement(relevance=True),
        judgement(relevance=1.5),
        judgement(query="half a pair \ud800"),
    ],
)
def test_broken_lines_are_counted_and_passed_over(tmp_path: Path, record: object) -> None:
    found = read_events([write(tmp_path / "file", record, judgement(id=None))])
    assert (found.broken, len(found.said), found.said[0].search_id) == (1, 1, None)


def test_later_is_later_in_any_zone(tmp_path: Path) -> None:
    times = ["2026-01-01T13:00:00+02:00", "2026-01-01T12:00:00Z", "2026-01-01T12:00:00.5+00:00", "2026-01-01T12:00:01"]
    records = [judgement(time=time, relevance=i) for i, time in enumerate(times)]
    found = read_events([write(tmp_path / "file", *reversed(records), judgement(time="yesterday"), judgement(time=7))])
    assert [each.relevance for each in found.said] == [0, 1, 2, 3]
    assert found.broken == 2


def test_ids_may_be_whole_numbers(tmp_path: Path) -> None:
    """As logs of other engines have them."""
    path = write(tmp_path / "file", {"kind": "search", "id": 1, "shown": [7, "8"]}, judgement(id=1, doc_id=7))
    found = read_events([path])
    assert found.shown == {"1": ["7", "8"]}
    assert (found.said[0].search_id, found.said[0].doc_id, found.broken) == ("1", "7", 0)


def test_what_says_nothing_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "journal", {"kind": "search", "id": "s1", "shown": ["a"]}, "broken")
    with pytest.raises(
        UserError, match=r"no judgement and no click in 1 searches \(1 lines cannot be read: .*not JSON"
    ):
        read_events([path])
    with pytest.raises(UserError, match="cannot read"):
        read_events([tmp_path / "nowhere"])
