"""The command that says why queries fail, and what it finds beside a bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from secondstage.collection import Collection
from secondstage.errors import UserError
from secondstage.files import read_json
from secondstage.plan import claimed
from secondstage.run import Run, read_trec
from secondstage.scorecache import CachedScorer
from secondstage.serve import diagnose_bundle
from secondstage.serve.proof.beside import collection_beside, opened


@pytest.fixture
def own(run_folder: Path, tmp_path: Path) -> Path:
    """A bundle with all that lies beside it, free to be changed."""
    for name in ("bundle", "collection", "scores"):
        shutil.copytree(run_folder / name, tmp_path / "out" / name)
    return tmp_path / "out" / "bundle"


def failed(run: Run, qrels: Mapping[str, Mapping[str, int]], cutoff: int) -> list[str]:
    """The queries whose one relevant document is not among the first."""
    return [query_id for query_id, judged in qrels.items() if not set(judged) & set(run[query_id].doc_ids[:cutoff])]


def records(bundle: Path, **options: Any) -> list[dict[str, Any]]:
    text = diagnose_bundle(bundle, None, "test", as_json=True, **options)
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("cutoff", [1, 2])
def test_exactly_the_failed_queries_are_told_with_their_texts(run_folder: Path, cutoff: int) -> None:
    collection = Collection.load(run_folder / "collection")
    pipeline = read_trec(run_folder / "evaluation" / "runs" / "pipeline.trec")
    expected = failed(pipeline, collection.split("test"), cutoff)
    found = records(run_folder / "bundle", cutoff=cutoff)
    assert [record["query_id"] for record in found] == expected
    assert expected
    for record in found:
        (relevant,) = collection.split("test")[record["query_id"]]
        document = collection.documents.by_id(relevant)
        assert record["query"] == collection.queries[record["query_id"]]
        assert record["relevant"]["doc_id"] == relevant
        assert (record["relevant"]["title"], record["relevant"]["text"]) == (document.title, document.text)
        assert record["rival"]["doc_id"] == pipeline[record["query_id"]].doc_ids[0]


def test_the_evaluation_counts_the_same(run_folder: Path) -> None:
    diagnosis = read_json(run_folder / "evaluation" / "metrics.json")["test_sets"]["test"]["diagnosis"]
    found = records(run_folder / "bundle")
    assert diagnosis["failed"] == len(found)
    assert diagnosis["cutoff"] == 10
    text = diagnose_bundle(run_folder / "bundle", None, "test")
    assert text.startswith(f"test: 16 queries\nfailed queries: {len(found)}\n")


def test_no_failure_is_no_line(run_folder: Path) -> None:
    assert diagnose_bundle(run_folder / "bundle", None, "test", cutoff=20, as_json=True) == ""
    assert "failed queries: 0\n" in diagnose_bundle(run_folder / "bundle", None, "test", cutoff=20)


def test_the_text_shows_as_many_as_asked_for_and_counts_the_rest(run_folder: Path) -> None:
    causes = [record["cause"] for record in records(run_folder / "bundle", cutoff=1)]
    (cause,) = [name for name in set(causes) if causes.count(name) == max(map(causes.count, causes))]
    count = causes.count(cause)
    assert count > 1
    for limit in (0, 1, count):
        text = diagnose_bundle(run_folder / "bundle", None, "test", cutoff=1, limit=limit)
        section = text.partition(f"\n\n{cause}\n")[2].partition("\n\n")[0]
        assert section.count("  query ") == limit
        assert (f"… and {count - limit} more" in text) == (limit < count)


def test_any_split_can_be_asked(own: Path) -> None:
    assert diagnose_bundle(own, None, "dev").startswith("dev: 16 queries\n")
    assert diagnose_bundle(own, None, "train").startswith("train: 32 queries\n")


@pytest.mark.parametrize(
    ("split", "options", "message"),
    [
        ("tset", {}, "has no split 'tset'; it has dev, test, train"),
        ("test", {"cutoff": 0}, "cutoff is 0, must be at least 1"),
        ("test", {"cutoff": -3}, "cutoff is -3, must be at least 1"),
        ("test", {"limit": -1}, "limit is -1, must be at least 0"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    run_folder: Path, split: str, options: dict[str, Any], message: str, scored: list[int]
) -> None:
    with pytest.raises(UserError, match=message):
        diagnose_bundle(run_folder / "bundle", None, split, **options)
    assert scored == []


def test_a_split_without_a_relevant_document_is_refused(run_folder: Path, beir_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(beir_folder, tmp_path / "beir")
    (tmp_path / "beir" / "qrels" / "none.tsv").write_text("q-bread-0\tbread-1\t0\n")
    Collection.read(tmp_path / "beir", tmp_path / "collection")
    with pytest.raises(UserError, match="split 'none' of collection 'beir' has no query with a relevant document"):
        diagnose_bundle(run_folder / "bundle", str(tmp_path / "collection"), "none")


def test_a_relevant_document_that_the_bundle_lacks_is_a_miss(own: Path, beir_folder: Path, tmp_path: Path) -> None:
    """The collection has grown since the bundle was made."""
    shutil.copytree(beir_folder, tmp_path / "beir")
    with (tmp_path / "beir" / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "new", "text": "new"}\n')
    (tmp_path / "beir" / "qrels" / "grown.tsv").write_text("q-bread-0\tnew\t1\n")
    given = Collection.read(tmp_path / "beir", tmp_path / "collection").folder
    (line,) = diagnose_bundle(own, str(given), "grown", as_json=True).splitlines()
    found = json.loads(line)
    assert (found["cause"], found["relevant"]["in_corpus"], found["relevant"]["text"]) == (
        "first_stage_miss",
        False,
        None,
    )
    assert "relevant new: not in the corpus" in diagnose_bundle(own, str(given), "grown")


def test_a_wrong_path_is_told_before_what_lies_beside_it(tmp_path: Path, run_folder: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a bundle"):
        diagnose_bundle(tmp_path / "nowhere", None, "test")
    with pytest.raises(UserError, match="is not a bundle: its manifest says 'mine'"):
        diagnose_bundle(run_folder / "mine", None, "test")


# --- what lies beside


def test_kept_scores_are_used_and_completed(own: Path, scored: list[int]) -> None:
    before = diagnose_bundle(own, None, "test", cutoff=1)
    # The split was evaluated: all that is scored is what the reranker did not see of the failed queries' documents.
    assert sum(scored) == 0
    diagnose_bundle(own, None, "train")
    assert sum(scored) == 32 * 20
    diagnose_bundle(own, None, "train")
    assert sum(scored) == 32 * 20
    assert diagnose_bundle(own, None, "test", cutoff=1) == before


def test_without_kept_scores_the_answer_is_the_same(own: Path, scored: list[int]) -> None:
    kept = diagnose_bundle(own, None, "test", cutoff=1)
    shutil.rmtree(own.parent / "scores")
    computed = diagnose_bundle(own, None, "test", cutoff=1)
    assert sum(scored) == 16 * 20
    assert computed == kept
    # Nothing is written where there was nothing: the folder may be someone else's.
    assert {path.name for path in own.parent.iterdir()} - {".lock"} == {"bundle", "collection"}


def test_kept_scores_are_locked_while_they_are_used(own: Path) -> None:
    with claimed(own.parent, ()), pytest.raises(UserError, match="another run is writing to"):
        diagnose_bundle(own, None, "test")
    with opened(own) as pipeline:
        assert isinstance(pipeline.scorer, CachedScorer)
        with pytest.raises(UserError, match="another run is writing to"), claimed(own.parent, ()):
            pass
    with claimed(own.parent, ()):
        pass
    with pytest.raises(ZeroDivisionError), opened(own):
        raise ZeroDivisionError
    with claimed(own.parent, ()):
        pass


def test_a_bundle_without_scores_beside_it_is_neither_cached_nor_locked(own: Path) -> None:
    shutil.rmtree(own.parent / "scores")
    with claimed(own.parent, ()), opened(own) as pipeline:
        assert pipeline.scorer is pipeline.reranker
    assert not (own.parent / "scores").exists()


def test_a_run_that_cannot_be_written_to_is_read_all_the_same(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = diagnose_bundle(own, None, "test", cutoff=1)
    before = sorted((path, path.stat().st_mtime_ns) for path in own.parent.rglob("*"))
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != own.parent / "scores")  # of root, all is writable
    with claimed(own.parent, ()), opened(own) as pipeline:
        assert pipeline.scorer is pipeline.reranker
    assert diagnose_bundle(own, None, "test", cutoff=1) == expected
    assert sorted((path, path.stat().st_mtime_ns) for path in own.parent.rglob("*")) == before


def test_the_collection_is_the_one_given_or_the_first_that_lies_beside(own: Path, tmp_path: Path) -> None:
    beside = own.parent / "collection"
    assert collection_beside([own], None).folder == beside
    assert collection_beside([tmp_path / "a" / "b.trec", own], None).folder == beside
    shutil.copytree(beside, tmp_path / "other")
    assert collection_beside([own], str(tmp_path / "other")).folder == tmp_path / "other"
    with pytest.raises(UserError, match="is not a collection"):
        collection_beside([own], str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"^no collection lies beside .*b\.trec: name its folder with --collection$"):
        collection_beside([tmp_path / "a" / "b.trec"], None)


@pytest.mark.parametrize(("folder", "path"), [("bundle", "."), (".", "bundle"), ("collection", "../bundle")])
def test_a_relative_path_has_the_same_neighbours(
    own: Path, monkeypatch: pytest.MonkeyPatch, folder: str, path: str
) -> None:
    monkeypatch.chdir(own.parent / folder)
    assert collection_beside([Path(path)], None).name == Collection.load(own.parent / "collection").name
    with opened(Path(path)) as pipeline:
        assert isinstance(pipeline.scorer, CachedScorer)
