"""Unlabelled queries: read from any file of queries, clear of dev and test, and of what is known anyway."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from secondstage.collection import Collection
from secondstage.duplicates import near_duplicates
from secondstage.errors import UserError
from secondstage.mine.unlabelledqueries import read_texts, unlabelled_queries

TEXTS = ["why does dough rise", "what is a spoke", "two  spaces\tand a tab"]
READ = [*TEXTS[:2], "two spaces and a tab"]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["queries.jsonl", "queries.txt", "log"])
def test_any_file_of_queries_is_read(tmp_path: Path, name: str, zipped: bool) -> None:
    lines = [json.dumps({"_id": i, "text": text}) for i, text in enumerate(TEXTS)] if "json" in name else [*TEXTS, " "]
    content = "".join(f"{line}\n" for line in lines).encode()
    path = tmp_path / (f"{name}.gz" if zipped else name)
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert read_texts(path) == READ


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("queries.jsonl", '{"_id": "1"}\nno json\n', r"2 faults\n.*:1: no 'text'\n.*:2: not JSON"),
        ("queries.txt.gz", "plain", r"is no whole gzip file"),
        ("queries.txt", "\n \n", r"holds no query: give a file with some"),
        ("queries.jsonl", '{"_id": "1", "text": "caf\\ud83d"}\n', r"'caf\?' holds half a surrogate pair"),
        ("queries.jsonl", "", r"holds no query: give a file with some"),
    ],
)
def test_a_file_that_is_none_is_refused(
    tmp_path: Path, collection: Collection, name: str, content: str, told: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"(?s){told}"):
        unlabelled_queries(tmp_path / name, collection, count=None, seed=1)


def taken(tmp_path: Path, collection: Collection, texts: list[str], **settings: int | None) -> list[str]:
    path = tmp_path / "log.txt"
    path.write_text("".join(f"{text}\n" for text in texts))
    found = unlabelled_queries(path, collection, **{"count": None, "seed": 13, **settings})  # type: ignore[arg-type]
    assert found.counts["unlabelled_queries"] == len(texts)
    assert found.counts["unlabelled_taken"] == len(found.queries)
    return list(found.queries.values())


def test_what_dev_and_test_ask_is_left_out_also_nearly(tmp_path: Path, collection: Collection) -> None:
    train, dev, test = (list(collection.split(split)) for split in ("train", "dev", "test"))
    own, of_dev, of_test = (collection.queries[ids[0]] for ids in (train, dev, test))
    near = of_test.replace(" the ", " the the ")
    (found,) = near_duplicates([near], [collection.queries[query_id] for query_id in test])
    assert 0.8 <= found.similarity < 1
    path = tmp_path / "log.txt"
    texts = ["how does dough rise", own.upper(), f"{of_dev}?", near, "How does dough rise?", "what do spokes hold"]
    path.write_text("".join(f"{text}\n" for text in texts))
    result = unlabelled_queries(path, collection, count=None, seed=13)
    assert list(result.queries.values()) == ["how does dough rise", "what do spokes hold"]
    assert result.counts == {
        "unlabelled_queries": 6,
        "unlabelled_repeated": 1,
        "unlabelled_in_train": 1,
        "unlabelled_same_text_as_held_out": 1,
        "unlabelled_near_duplicate_as_held_out": 1,
        "unlabelled_taken": 2,
    }
    assert not result.queries.keys() & collection.queries.keys()


def test_what_a_sign_tells_apart_is_no_repetition(tmp_path: Path, collection: Collection) -> None:
    texts = ["read a file in C++", "read a file in C#", "Read a file in C++!"]
    assert sorted(taken(tmp_path, collection, texts)) == sorted(texts[:2])


def test_some_are_chosen_by_the_seed_and_their_words_alone(tmp_path: Path, collection: Collection) -> None:
    texts = [f"question number {i} about {i * i}" for i in range(40)]
    assert taken(tmp_path, collection, texts) == texts
    some = taken(tmp_path, collection, texts, count=10)
    assert len(some) == 10
    assert set(taken(tmp_path, collection, texts[::-1], count=10)) == set(some)
    assert set(taken(tmp_path, collection, texts, count=10, seed=14)) != set(some)
