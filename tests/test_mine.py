"""Training lists, from a first stage and a collection to the files that training reads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage.collection import Collection
from secondstage.config import Bm25Config, MineConfig
from secondstage.errors import UserError
from secondstage.files import file_digest
from secondstage.firststage import search_run
from secondstage.firststage.bm25 import Bm25
from secondstage.lists import DROPPED, NEGATIVE, POSITIVE, TrainingList, read_lists
from secondstage.mine import Source, mine
from secondstage.run import read_trec
from secondstage.splits import answerable

DEV_DEPTH = 6


@pytest.fixture(scope="module")
def bm25(collection: Collection) -> Bm25:
    return Bm25.build(Bm25Config(), collection.documents)


@pytest.fixture(scope="module")
def judged(beir_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """The collection with more judgements: positives found and missed, negatives, a query without positive."""
    folder = tmp_path_factory.mktemp("judged") / "beir"
    shutil.copytree(beir_folder, folder)
    more = ("q-bread-0\twinter-7\t2", "q-bread-0\tbread-5\t1", "q-chess-1\tchess-0\t0", "q-river-7\triver-1\t0")
    with (folder / "qrels" / "train.tsv").open("a") as file:
        file.writelines(f"{line}\n" for line in more)
    return Collection.read(folder, folder.parent / "collection")


def mined(collection: Collection, bm25: Bm25, folder: Path, seed: int = 13, **settings: Any) -> dict[str, Any]:
    folder.mkdir(parents=True)
    source = Source(collection, bm25, "bm25", MineConfig(**settings), seed, folder.parent)
    return mine(source, folder, dev_depth=DEV_DEPTH)


def lists(folder: Path) -> dict[str, TrainingList]:
    return {training_list.query_id: training_list for training_list in read_lists(folder / "train")}


def test_every_candidate_says_where_it_came_from(judged: Collection, tmp_path: Path) -> None:
    bm25 = Bm25.build(Bm25Config(), judged.documents)
    mined(judged, bm25, tmp_path / "mined", depth=12, negatives=5)
    qrels = answerable(judged.split("train"))
    run = search_run(bm25, judged.documents.ids, {q: judged.queries[q] for q in qrels}, 12)
    found = lists(tmp_path / "mined")
    assert found.keys() == qrels.keys()
    for query_id, training_list in found.items():
        ranking, relevance = run[query_id], qrels[query_id]
        for candidate in training_list.candidates:
            assert candidate.judged == (candidate.doc_id in relevance)
            assert candidate.relevance == relevance.get(candidate.doc_id, 0)
            assert (candidate.role == POSITIVE) == (candidate.relevance > 0) == (candidate.decision == "qrels")
            if candidate.rank:
                assert ranking.doc_ids[candidate.rank - 1] == candidate.doc_id
                assert np.float32(candidate.score) == ranking.scores[candidate.rank - 1]
                assert candidate.retriever == "bm25"
            else:
                assert candidate.doc_id not in ranking.doc_ids
                assert (candidate.retriever, candidate.role) == ("qrels", POSITIVE)
        # Nothing that was found is missing: what training does not see says why.
        assert tuple(c.doc_id for c in training_list.candidates if c.rank) == ranking.doc_ids
        assert {c.decision for c in training_list.with_role(DROPPED)} <= {"share", "not sampled"}


def test_random_documents_are_drawn_from_the_rest_of_the_corpus(
    collection: Collection, bm25: Bm25, tmp_path: Path
) -> None:
    drawn: dict[int, dict[str, set[str]]] = {}
    for seed in (13, 14):
        mined(collection, bm25, tmp_path / str(seed), seed=seed, depth=12, negatives=8, random_share=0.25)
        found = lists(tmp_path / str(seed))
        drawn[seed] = {q: {c.doc_id for c in x.candidates if c.retriever == "random"} for q, x in found.items()}
        for query_id, training_list in found.items():
            assert len(drawn[seed][query_id]) == 2
            assert len({c.doc_id for c in training_list.candidates}) == len(training_list.candidates)
            assert {c.role for c in training_list.candidates if c.retriever == "random"} == {NEGATIVE}
    assert len(set().union(*drawn[13].values())) > 20
    assert sum(drawn[13][query_id] != drawn[14][query_id] for query_id in drawn[13]) > 25


def test_no_positive_is_a_negative_and_none_is_left_out(judged: Collection, tmp_path: Path) -> None:
    bm25 = Bm25.build(Bm25Config(), judged.documents)
    manifest = mined(judged, bm25, tmp_path / "mined", depth=12, negatives=5)
    found = lists(tmp_path / "mined")
    assert found.keys() | {"q-river-7"} == judged.split("train").keys()
    for query_id, relevance in answerable(judged.split("train")).items():
        positives = {c.doc_id for c in found[query_id].with_role(POSITIVE)}
        negatives = [c.doc_id for c in found[query_id].with_role(NEGATIVE)]
        assert positives == {doc_id for doc_id, value in relevance.items() if value > 0}
        assert 1 <= len(set(negatives)) == len(negatives) <= 5
        assert not positives & set(negatives)
    (missed,) = [c for c in found["q-bread-0"].candidates if c.rank == 0]
    assert (missed.doc_id, missed.relevance) == ("winter-7", 2)
    assert manifest["positives"] == 32 + 2
    assert manifest["positives_missed_by_first_stage"] == 1


def test_the_manifest_counts_what_the_lists_hold(collection: Collection, bm25: Bm25, tmp_path: Path) -> None:
    manifest = mined(collection, bm25, tmp_path / "mined", depth=12, negatives=5)
    found = list(lists(tmp_path / "mined").values())
    assert manifest["lists"] == len(found) == manifest["train_queries"] == 32
    assert manifest["positives"] == sum(len(x.with_role(POSITIVE)) for x in found)
    assert manifest["negatives_kept"] == sum(len(x.with_role(NEGATIVE)) for x in found)
    assert manifest["lists_short_of_negatives"] == sum(len(x.with_role(NEGATIVE)) < 5 for x in found)
    assert manifest["dev_queries"] == 16


def test_the_same_seed_gives_the_same_file_and_another_one_other_lists(
    collection: Collection, bm25: Bm25, tmp_path: Path
) -> None:
    digests = []
    for name, seed in (("a", 13), ("b", 13), ("c", 14)):
        mined(collection, bm25, tmp_path / name, seed=seed, negatives=4)
        digests.append([file_digest(tmp_path / name / file) for file in ("train/00000.arrow", "dev.trec")])
    assert digests[0] == digests[1]
    assert digests[0][0] != digests[2][0]
    assert digests[0][1] == digests[2][1]  # all dev queries are taken: nothing is drawn
    one, other = lists(tmp_path / "a"), lists(tmp_path / "c")
    assert one.keys() == other.keys()
    assert sum(one[query_id] != other[query_id] for query_id in one) > 16


def test_fewer_queries_have_the_same_lists(collection: Collection, bm25: Bm25, tmp_path: Path) -> None:
    mined(collection, bm25, tmp_path / "all", negatives=4)
    manifest = mined(collection, bm25, tmp_path / "some", negatives=4, max_queries=9, dev_queries=5)
    whole, some = lists(tmp_path / "all"), lists(tmp_path / "some")
    assert len(some) == 9 == manifest["train_queries"]
    assert all(whole[query_id] == training_list for query_id, training_list in some.items())
    assert len(read_trec(tmp_path / "some" / "dev.trec")) == 5 == manifest["dev_queries"]


def test_batches_of_queries_do_not_matter(
    collection: Collection, bm25: Bm25, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mined(collection, bm25, tmp_path / "whole")
    monkeypatch.setattr("secondstage.mine.search.QUERIES_PER_SHARD", 5)
    mined(collection, bm25, tmp_path / "parts")
    for file in ("train/00000.arrow", "dev.trec"):
        assert file_digest(tmp_path / "whole" / file) == file_digest(tmp_path / "parts" / file)


def test_the_dev_file_holds_exactly_the_first_stages_lists(collection: Collection, bm25: Bm25, tmp_path: Path) -> None:
    mined(collection, bm25, tmp_path / "mined")
    queries = {query_id: collection.queries[query_id] for query_id in collection.split("dev")}
    expected = search_run(bm25, collection.documents.ids, queries, DEV_DEPTH)
    found = read_trec(tmp_path / "mined" / "dev.trec")
    assert found.name == "first_stage"
    assert list(found) == list(expected)
    for query_id, ranking in expected.items():
        assert found[query_id].doc_ids == ranking.doc_ids
        assert found[query_id].scores.tobytes() == ranking.scores.tobytes()
        assert len(ranking.doc_ids) == DEV_DEPTH


def without(beir_folder: Path, split: str, folder: Path) -> Collection:
    shutil.copytree(beir_folder, folder / "beir")
    (folder / "beir" / "qrels" / f"{split}.tsv").unlink()
    return Collection.read(folder / "beir", folder / "collection", dev_share=0.0)


def test_without_a_train_split_there_is_nothing_to_mine(beir_folder: Path, bm25: Bm25, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no training query with a judgement of .*: training needs a train split"):
        mined(without(beir_folder, "train", tmp_path), bm25, tmp_path / "mined")


def test_without_a_dev_split_its_file_is_empty(beir_folder: Path, bm25: Bm25, tmp_path: Path) -> None:
    manifest = mined(without(beir_folder, "dev", tmp_path), bm25, tmp_path / "mined")
    assert manifest["dev_queries"] == 0
    assert (tmp_path / "mined" / "dev.trec").read_text() == ""
    assert len(lists(tmp_path / "mined")) == 32


@pytest.mark.parametrize("splits", [("train", "dev"), ("dev",), ("train",), ()])
def test_where_nothing_is_trained_only_dev_is_searched(
    beir_folder: Path, bm25: Bm25, tmp_path: Path, splits: tuple[str, ...]
) -> None:
    shutil.copytree(beir_folder, tmp_path / "beir")
    for split in {"train", "dev"} - set(splits):
        (tmp_path / "beir" / "qrels" / f"{split}.tsv").unlink()
    part = Collection.read(tmp_path / "beir", tmp_path / "collection", dev_share=0.0)
    (tmp_path / "mined").mkdir()
    source = Source(part, bm25, "bm25", MineConfig(), 13, tmp_path)
    found = mine(source, tmp_path / "mined", dev_depth=DEV_DEPTH, dev_only=True)
    dev = 16 if "dev" in splits else 0
    assert found == {"train_queries": 0, "dev_queries": dev}
    assert lists(tmp_path / "mined") == {}
    run = read_trec(tmp_path / "mined" / "dev.trec")
    assert list(run) == (list(part.split("dev")) if dev else [])
    assert {len(ranking.doc_ids) for ranking in run.values()} <= {DEV_DEPTH}


def test_lists_without_negatives_are_counted(judged: Collection, tmp_path: Path) -> None:
    """BM25 finds the marked document first: at depth 1 there is nothing else, but where that document is judged."""
    bm25 = Bm25.build(Bm25Config(), judged.documents)
    with pytest.raises(
        UserError,
        match=r"none of 32 training lists has both a positive and a negative.*: raise mine\.depth",
    ):
        mined(judged, bm25, tmp_path / "mined", depth=1)
    manifest = mined(judged, bm25, tmp_path / "two", depth=2, min_score=2.1)
    with_negatives = [found for found in lists(tmp_path / "two").values() if found.with_role(NEGATIVE)]
    assert 0 < manifest["lists"] == len(with_negatives) < 32
    assert manifest["lists"] + manifest["lists_without_negatives"] == 32 == len(lists(tmp_path / "two"))


def test_a_relevance_that_no_judgement_has_is_refused(collection: Collection, bm25: Bm25, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no training query with a judgement of mine\.positive_from=2 or higher"):
        mined(collection, bm25, tmp_path / "mined", positive_from=2)
