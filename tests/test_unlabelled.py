"""Unlabelled queries beside training lists: written, read again, and met in training."""

from __future__ import annotations

from pathlib import Path

import pytest

from secondstage.collection import Collection
from secondstage.errors import UserError
from secondstage.leakage import trained_on
from secondstage.lists import NEGATIVE, POSITIVE, Candidate, TrainingList, write_lists
from secondstage.texts import texts_of_lists
from secondstage.unlabelled import UNLABELLED, read_unlabelled, write_unlabelled

QUERIES = {"unlabelled-1": "how long do “loaves” bake?", "unlabelled-2": "Fluß\u2028und Brücke"}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_unlabelled(tmp_path) == {}
    write_unlabelled(tmp_path / UNLABELLED, QUERIES)
    assert read_unlabelled(tmp_path) == QUERIES
    assert len((tmp_path / UNLABELLED).read_bytes().splitlines()) == 2


@pytest.mark.parametrize("line", ["{", '{"_id": "a"}', "[1]", "3"])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / UNLABELLED).write_text(f'{{"_id": "a", "text": "b"}}\n{line}\n')
    with pytest.raises(UserError, match=r"unlabelled\.jsonl:2 is no query"):
        read_unlabelled(tmp_path)


def test_training_finds_their_texts_and_the_proof_knows_them(tmp_path: Path, collection: Collection) -> None:
    labelled = TrainingList(
        "q-bread-0",
        tuple(Candidate(d, 1, True, "bm25", 1, 1.0, role) for d, role in (("bread-0", POSITIVE), ("a", NEGATIVE))),
    )
    write_lists(tmp_path / "train", [labelled])
    write_unlabelled(tmp_path / UNLABELLED, QUERIES)
    texts = texts_of_lists(collection, tmp_path)
    assert texts([("unlabelled-1", "bread-0"), ("q-bread-0", "bread-0")]) == [
        (QUERIES["unlabelled-1"], collection.documents.by_id("bread-0").content),
        (collection.queries["q-bread-0"], collection.documents.by_id("bread-0").content),
    ]
    met = trained_on(tmp_path, collection.queries)
    assert met.queries == {"q-bread-0": collection.queries["q-bread-0"], **QUERIES}
    assert met.qrels == {"q-bread-0": {"bread-0": 1}, "unlabelled-1": {}, "unlabelled-2": {}}
