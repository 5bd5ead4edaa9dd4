"""Data sets of the hub: the layouts of BEIR and MTEB, and a word for every way in which they cannot be had.

The hub is a folder here: `datasets.load_dataset` is pointed at it, and does all the rest itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import datasets.config
import datasets.exceptions
import huggingface_hub
import pytest

from secondstage.collection import Collection, Document, Qrel, Query
from secondstage.errors import Faults, UserError
from secondstage.sources.hub import HubSource

Rows = list[dict[str, Any]]
Publish = Callable[[str, Mapping[str, Mapping[str, Rows]]], None]

CORPUS: Rows = [{"_id": "d1", "title": "T", "text": "one"}, {"_id": "d2", "title": "", "text": "two"}]
QUERIES: Rows = [{"_id": "1", "text": "first?"}, {"_id": "2", "text": "second?"}]
TEXTS: dict[str, dict[str, Rows]] = {"corpus": {"corpus": CORPUS}, "queries": {"queries": QUERIES}}


def judged(*qrels: tuple[object, object, object]) -> Rows:
    return [dict(zip(("query-id", "corpus-id", "score"), qrel, strict=True)) for qrel in qrels]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Lays out a data set, rows by split by configuration, where `load_dataset` finds it by its id."""
    hub, load = tmp_path / "hub", datasets.load_dataset

    def load_from_folder(dataset_id: str, config: str | None = None) -> Any:
        folder = hub / dataset_id
        if not folder.is_dir():
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{dataset_id}' doesn't exist on the Hub")
        return load(str(folder), config, cache_dir=str(tmp_path / "cache"))

    def lay_out(dataset_id: str, configs: Mapping[str, Mapping[str, Rows]]) -> None:
        folder = hub / dataset_id
        folder.mkdir(parents=True)
        card = []
        for config, splits in configs.items():
            files = [{"split": split, "path": f"{config}-{split}.jsonl"} for split in splits]
            card.append({"config_name": config, "data_files": files})
            for split, rows in splits.items():
                lines = "".join(json.dumps(row) + "\n" for row in rows)
                (folder / f"{config}-{split}.jsonl").write_text(lines)
        (folder / "README.md").write_text(f"---\n{json.dumps({'configs': card})}\n---\n")

    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets, "load_dataset", load_from_folder)
    return lay_out


def read(dataset_id: str) -> tuple[list[Document], list[Query], dict[str, list[Qrel]], tuple[str, ...]]:
    source, faults = HubSource(dataset_id), Faults("test")
    documents, queries = list(source.documents(faults)), list(source.queries(faults))
    return documents, queries, source.qrels(faults), faults.messages


def test_beir_keeps_its_qrels_in_a_second_data_set(publish: Publish) -> None:
    publish("Org/tiny", TEXTS)
    publish("Org/tiny-qrels", {"default": {"train": judged((1, "d1", 1)), "validation": judged((2, "d2", 1))}})
    assert read("Org/tiny") == (
        [Document("d1", "T", "one"), Document("d2", "", "two")],
        [Query("1", "first?"), Query("2", "second?")],
        {"train": [Qrel("1", "d1", 1)], "dev": [Qrel("2", "d2", 1)]},
        (),
    )


@pytest.mark.parametrize("config", ["default", "qrels"])
def test_mteb_keeps_its_qrels_in_a_configuration(publish: Publish, config: str) -> None:
    publish("mteb/tiny", {config: {"dev": judged(("1", "d1", 1.0)), "test": judged(("2", "d2", 0.0))}, **TEXTS})
    _, _, qrels, faults = read("mteb/tiny")
    assert qrels == {"dev": [Qrel("1", "d1", 1)], "test": [Qrel("2", "d2", 0)]}
    assert faults == ()


def test_rows_may_call_their_id_id_and_the_only_split_anything(publish: Publish) -> None:
    texts: dict[str, dict[str, Rows]] = {
        "corpus": {"train": [{"id": "d1", "text": "one"}]},
        "queries": {"test": [{"id": 5, "text": "?"}]},
    }
    publish("new/tiny", {**texts, "default": {"test": judged((5, "d1", 1))}})
    documents, queries, _, faults = read("new/tiny")
    assert (documents, queries, faults) == ([Document("d1", "", "one")], [Query("5", "?")], ())


def test_a_configuration_of_something_else_is_not_taken_for_qrels(publish: Publish) -> None:
    publish("Org/tiny", {"default": {"train": [{"text": "prose"}]}, **TEXTS})
    publish("Org/tiny-qrels", {"default": {"test": judged((1, "d1", 1))}})
    assert read("Org/tiny")[2] == {"test": [Qrel("1", "d1", 1)]}


def test_faulty_rows_are_told_with_their_place(publish: Publish) -> None:
    corpus = [*CORPUS, {"_id": None, "title": "", "text": "x"}, {"_id": "d4", "title": "", "text": None}]
    qrels = judged((1, "d1", 0.5), (None, "d1", 1), (1, "d1", None), (1, "d2", -1))
    publish("Org/tiny", {"corpus": {"corpus": corpus}, "queries": TEXTS["queries"], "default": {"test": qrels}})
    documents, _, found, faults = read("Org/tiny")
    assert [document.doc_id for document in documents] == ["d1", "d2"]
    assert found == {"test": [Qrel("1", "d2", 0)]}
    assert faults == (
        "Org/tiny, corpus, row 3: no '_id'; there is title, text",
        "Org/tiny, corpus, row 4: 'text' must be a string, not None",
        "Org/tiny (default), test, row 1: score 0.5 is not a whole number",
        "Org/tiny (default), test, row 2: ids must be strings or whole numbers",
        "Org/tiny (default), test, row 3: score None is not a whole number",
    )


def test_missing_qrels_are_told_with_every_place_that_was_tried(publish: Publish) -> None:
    publish("Org/tiny", {"default": {"train": [{"text": "prose"}]}, **TEXTS})
    with pytest.raises(UserError) as caught:
        HubSource("Org/tiny").qrels(Faults("test"))
    told = str(caught.value).splitlines()
    assert told[0] == "no qrels were found for data set 'Org/tiny':"
    assert told[1] == "  Org/tiny (default) lacks the columns query-id, corpus-id, score"
    assert told[2].startswith("  cannot load configuration 'qrels' of data set 'Org/tiny' from the hub: ValueError")
    assert told[3].startswith("  cannot load data set 'Org/tiny-qrels' from the hub: DatasetNotFoundError")
    assert "BEIR folder" in told[4]


def test_a_data_set_in_another_layout_is_refused(publish: Publish) -> None:
    publish("Org/other", {"default": {"train": [{"text": "prose"}]}})
    with pytest.raises(UserError, match="cannot load configuration 'corpus' of data set 'Org/other'"):
        list(HubSource("Org/other").documents(Faults("test")))
    publish("Org/many", {"corpus": {"en": CORPUS, "de": CORPUS}})
    with pytest.raises(UserError, match="has the splits en, de, where one called 'corpus' is expected"):
        list(HubSource("Org/many").documents(Faults("test")))


def test_it_becomes_a_collection_that_names_its_revision(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("Org/tiny", {**TEXTS, "default": {"test": judged((1, "d1", 1), (2, "d1", -1))}})
    cached = tmp_path / "hub-cache" / "datasets--Org--tiny"
    for path, content in {"refs/main": "abc123", "snapshots/abc123/README.md": "card"}.items():
        (cached / path).parent.mkdir(parents=True)
        (cached / path).write_text(content)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cached.parent))
    before = HubSource("Org/tiny").fingerprint()
    collection = Collection.read("hf:Org/tiny", tmp_path / "stored")
    assert collection.name == "Org/tiny"
    assert collection.qrels == {"test": {"1": {"d1": 1}, "2": {"d1": 0}}}
    assert collection.manifest["notes"] == [
        "read from the hub: Org/tiny at revision abc123",
        "judgements with a negative relevance, taken as 0: 1",
    ]
    assert collection.manifest["fingerprint"] == before
    assert before != HubSource("Org/other").fingerprint()


def test_without_the_hub_there_is_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError) as caught:
        Collection.read("hf:Org/not-in-any-cache", tmp_path / "out" / "stored")
    for words in ("'Org/not-in-any-cache'", "OfflineModeIsEnabled", "HF_HOME", "BEIR folder", "collection.source"):
        assert words in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_local_folder_is_not_read_in_the_place_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Org" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="without hf:"):
        HubSource("Org/tiny")
    with pytest.raises(UserError, match="must name a data set"):
        HubSource("")
