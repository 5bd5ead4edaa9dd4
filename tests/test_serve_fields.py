"""Fields of documents: what is kept of them, who matches, and what a first stage finds among those."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from secondstage.collection import Collection, Documents
from secondstage.config import Bm25Config
from secondstage.errors import UserError
from secondstage.firststage import Hits
from secondstage.firststage.bm25 import Bm25
from secondstage.firststage.hybrid import Hybrid
from secondstage.firststage.only import search_only
from secondstage.serve.fields import Fields, as_text

RECORDS = [
    {"year": 2019, "language": "en", "tags": ["a", "b"]},
    {"year": 2020.0, "language": "de", "open": True},
    {"year": "2020", "language": "en", "tags": ["b"], "years": [2020, 2021.0, "2022", True]},
    {},
    {"language": "en", "nested": {"x": 1}, "nothing": None, "deep": ["a", [1]], "half": "\ud800", "nan": float("nan")},
]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Documents:
    folder = tmp_path_factory.mktemp("fields")
    lines = [{"_id": f"d{i}", "text": f"text {i}", "metadata": record} for i, record in enumerate(RECORDS)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Collection.read(folder, folder / "stored").documents


def test_fields_that_can_be_asked_for_are_kept(documents: Documents) -> None:
    found = [json.loads(text or "{}") for text in documents.metadata()]
    assert found == [*RECORDS[:4], {"language": "en", "half": "\ud800"}]
    assert [document.metadata for document in documents] == list(documents.metadata())
    assert documents[3].metadata == ""


def test_documents_that_were_stored_without_fields_go_on_loading(as_documents) -> None:  # type: ignore[no-untyped-def]
    old: Documents = as_documents(["a text", "another"])
    assert (old[1].text, old[1].metadata, [document.text for document in old]) == ("another", "", ["a text", "another"])
    assert list(old.metadata()) == ["", ""]
    with pytest.raises(UserError, match=r"the field 'year', which no document has \(they have none\)"):
        Fields(old).check({"year": 1})


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ({"year": 2020}, [1, 2]),
        ({"year": "2020"}, [1, 2]),
        ({"year": [2019, 2020]}, [0, 1, 2]),
        ({"year": 2020, "language": "en"}, [2]),
        ({"tags": "b"}, [0, 2]),
        ({"tags": ("a", "z")}, [0]),
        ({"years": "2021"}, [2]),
        ({"years": [2022, 1999]}, [2]),
        ({"open": "true"}, [1]),
        ({"open": True}, [1]),
        ({"language": "fr"}, []),
    ],
)
def test_who_matches(documents: Documents, where: dict[str, object], rows: list[int]) -> None:
    fields = Fields(documents)
    fields.check(where)  # type: ignore[arg-type]
    for _ in range(2):  # remembered
        assert np.flatnonzero(fields.matching(where)).tolist() == rows  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({}, "at least one field"),
        ("year=2020", "at least one field"),
        ({"yaer": 2020}, r"'yaer', which no document has \(they have half, language, open, tags, year, years\)"),
        ({"year": None}, "year is None, must be"),
        ({"year": []}, r"year is \[\], must be"),
        ({"year": {"from": 2000}}, "must be a text, a number"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(documents: Documents, where: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Fields(documents).check(where)  # type: ignore[arg-type]


def test_the_text_of_a_value() -> None:
    assert [as_text(value) for value in (True, 1, 1.0, 1.5, "x")] == ["true", "1", "1", "1.5", "x"]


# --- a first stage among some documents


class Every:
    """Finds every document for every query, in the order of the rows; keeps how deep it was asked."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[tuple[int, int]] = []

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        self.asked.append((len(queries), depth))
        rows = np.arange(min(depth, self.count))
        return [Hits(rows, -rows.astype(np.float32), ("every",) * len(rows))] * len(queries)

    def save(self, folder: Path) -> None: ...

    def parts(self) -> dict[str, Every]:
        return {"every": self}


@pytest.mark.parametrize(
    ("kept", "depth", "asked"),
    [
        (range(100), 10, [10]),
        (range(50, 100), 10, [10, 20, 40, 80]),
        ([99], 10, [10, 20, 40, 80, 160]),
        ([], 10, [10]),
        ([0, 1], 10, [10]),  # all there are
    ],
)
def test_it_is_searched_twice_as_deep_until_enough_are_found(kept: Sequence[int], depth: int, asked: list[int]) -> None:
    mask, every = np.zeros(100, bool), Every(100)
    mask[list(kept)] = True
    found = search_only(every, [f"d{i}" for i in range(100)], {"q": "x", "r": "y"}, mask, depth)
    assert found["q"].doc_ids == found["r"].doc_ids == tuple(f"d{i}" for i in list(kept)[:depth])
    assert every.asked == [(2, each) for each in asked]


def test_among_all_it_finds_what_it_always_finds(collection: Collection) -> None:
    bm25 = Bm25.build(Bm25Config(), collection.documents)
    hybrid = Hybrid({"bm25": bm25, "every": Every(64)}, "zscore", {"bm25": 0.5, "every": 0.5}, 20)
    ids, queries = collection.documents.ids, {"q": "key of the piano", "r": "unheard"}
    for first_stage in (bm25, hybrid):
        found = search_only(first_stage, ids, queries, np.ones(64, bool), 15)
        for query_id, hits in zip(queries, first_stage.search(list(queries.values()), 15), strict=True):
            assert found[query_id].doc_ids == tuple(ids[row] for row in hits.rows.tolist())


def test_a_hybrid_is_fused_of_what_its_parts_find_among_them(collection: Collection) -> None:
    """As if the others were not there: the same lists as those of a corpus that never had them, statistics aside."""
    mask = np.zeros(64, bool)
    mask[32:] = True
    hybrid = Hybrid({"one": Every(64), "two": Every(64)}, "minmax", {"one": 0.5, "two": 0.5}, 20)
    found = search_only(hybrid, collection.documents.ids, {"q": "x"}, mask, 5)["q"]
    assert found.doc_ids == tuple(collection.documents.ids[32:37])
    # Twenty of each are fused, from the 32nd to the 51st row: the best has 1, the last 0.
    assert found.scores.tolist() == pytest.approx([1 - i / 19 for i in range(5)])
    assert set(found.retrievers) == {"one+two"}
