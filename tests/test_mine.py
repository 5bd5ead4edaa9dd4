"""Training lists, from a first stage and a collection to the files that training reads."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage.answercache import Reply
from secondstage.collection import Collection
from secondstage.commands import carry_out_up_to
from secondstage.config import Bm25Config, MineConfig, TrainConfig
from secondstage.configfile import check_config
from secondstage.errors import UserError
from secondstage.files import file_digest, read_json, read_manifest, write_json
from secondstage.firststage import search_run
from secondstage.firststage.bm25 import Bm25
from secondstage.lists import DROPPED, NEGATIVE, POSITIVE, TrainingList, read_lists
from secondstage.mine import Source, mine
from secondstage.mine.costs import COSTS, GENERATORS
from secondstage.mine.stage import FAILED
from secondstage.mine.synthesis import held_out_documents
from secondstage.mine.synthesis.prompts import Messages
from secondstage.run import read_trec
from secondstage.splits import answerable
from secondstage.synthetic import SYNTHETIC, read_records, synthetic_qrels
from secondstage.train import Task, train

from .test_source import Overlap, changed, review, teach

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


def test_what_is_left_out_for_dev_and_test_is_told(beir_folder: Path, tmp_path: Path) -> None:
    collection = changed(beir_folder, tmp_path, train=["q-bread-0 bread-2 1"])
    bm25 = Bm25.build(Bm25Config(), collection.documents)
    settings: dict[str, Any] = {"exclude_leaks": "documents", "synthesize": {"min_words": 3}}
    manifest = mined(collection, bm25, tmp_path / "mined", **settings)
    assert manifest["train_queries_excluded_as_leaks"] == 1
    assert "q-bread-0" not in lists(tmp_path / "mined")
    record = read_json(tmp_path / "mined" / "audit.json")
    note = "1 of 32 training queries share their text, nearly, or a relevant document with a query of dev, test"
    assert record["notes"] == [f"{note}: left out"]
    assert note in (tmp_path / "mined" / "audit.html").read_text()
    assert record["counts"]["train_queries_excluded_as_leaks"] == 1
    # Nor is anything asked about the documents of dev and test.
    held_out = held_out_documents(collection)
    asked_about = {query.doc_id for query in read_records(tmp_path / "mined" / SYNTHETIC)}
    assert len(asked_about) == 32 == record["counts"]["synthetic_documents_spared"]
    assert not asked_about & held_out


def test_where_all_give_something_away_documents_are_asked_about(beir_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(beir_folder, tmp_path / "beir")
    (tmp_path / "beir" / "qrels" / "train.tsv").write_text("q-bread-2\tbread-2\t1\nq-river-2\triver-2\t1\n")
    collection = Collection.read(tmp_path / "beir", tmp_path / "collection")
    bm25 = Bm25.build(Bm25Config(), collection.documents)
    with pytest.raises(UserError, match=r"all 2 training queries share .* leaves none"):
        mined(collection, bm25, tmp_path / "none", exclude_leaks="documents")
    manifest = mined(collection, bm25, tmp_path / "mined", exclude_leaks="documents", synthesize={"min_words": 3})
    assert manifest["train_queries_excluded_as_leaks"] == 2
    assert len(lists(tmp_path / "mined")) == manifest["train_queries"] == manifest["synthesis_counts"]["kept"] > 20


@pytest.mark.parametrize("positive_from", [1, 2])
def test_queries_made_from_documents_stand_beside_those_of_people(
    beir_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, positive_from: int
) -> None:
    collection = changed(beir_folder, tmp_path, train=["q-bread-0 bread-6 2", "q-chess-0 chess-6 2"])
    bm25 = Bm25.build(Bm25Config(), collection.documents)
    teacher = Overlap()
    settings: dict[str, Any] = {
        "positive_from": positive_from,
        "teachers": teach(monkeypatch, teacher),
        "max_share": None,
    }
    mined(collection, bm25, tmp_path / "alone", **settings)
    teacher.lists.clear()
    synthesize = {"min_words": 3, "teacher_rank": 20}
    manifest = mined(collection, bm25, tmp_path / "both", **settings, synthesize=synthesize)
    alone, both = lists(tmp_path / "alone"), lists(tmp_path / "both")
    assert len(alone) == (32 if positive_from == 1 else 2)
    made = list(read_records(tmp_path / "both" / SYNTHETIC))
    kept = {query.query_id: query for query in made if query.kept}
    assert list(both) == [*alone, *kept]
    assert {query_id: both[query_id] for query_id in alone} == alone
    assert manifest["train_queries"] == len(both)
    assert manifest["synthesis_counts"]["kept"] == len(kept) > 20
    assert manifest["synthesis"] == {"generator": "title"}
    answers = synthetic_qrels(made)
    for query_id, query in kept.items():
        positives = both[query_id].with_role(POSITIVE)
        assert {candidate.doc_id for candidate in positives} >= answers[query_id].keys()
        own = next(candidate for candidate in positives if candidate.doc_id == query.doc_id)
        assert (own.relevance, own.decision) == (positive_from, "qrels")
        # The teacher was asked about the positive as training reads it: without its title.
        document = collection.documents.by_id(query.doc_id)
        shown = next(texts for text, texts in reversed(teacher.lists) if text == query.text)
        assert document.text in shown
        assert document.content not in shown


@pytest.mark.parametrize("splits", [("dev", "test"), ("test",), ()])
def test_without_a_train_split_queries_made_from_documents_are_trained_on(
    beir_folder: Path, tmp_path: Path, tiny_model: Path, splits: tuple[str, ...]
) -> None:
    collection = changed(beir_folder, tmp_path, splits=splits)
    bm25 = Bm25.build(Bm25Config(), collection.documents)
    manifest = mined(collection, bm25, tmp_path / "mined", synthesize={"min_words": 3}, positive_from=2)
    found = lists(tmp_path / "mined")
    assert manifest["lists"] == len(found) == manifest["synthesis_counts"]["kept"] > 20
    assert manifest["dev_queries"] == (16 if "dev" in splits else 0)
    trained = tuned(collection, tmp_path / "mined", tmp_path / "trained", tiny_model)
    assert trained["steps"] == 2
    assert 2 <= trained["lists"] <= len(found)
    assert (tmp_path / "trained" / "reranker" / "model.safetensors").is_file()


def tuned(collection: Collection, folder: Path, target: Path, tiny_model: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {"max_length": 32, "batch_tokens": 512, "precision": "fp32", "steps": 2}
    target.mkdir()
    return train(Task(collection, folder, TrainConfig(model=str(tiny_model), **settings), 13), target)


def configured(folder: Path, output: Path, tiny_model: Path, **mining: Any) -> Any:
    train = {"model": str(tiny_model), "steps": 2, "max_length": 32, "batch_tokens": 512, "precision": "fp32"}
    config = {
        "output": str(output),
        "collection": str(folder),
        "first_stage": {"kind": "bm25"},
        "mine": mining,
        "train": {**train, "dev_depth": DEV_DEPTH},
    }
    return check_config(config)


def test_a_corpus_alone_is_enough(beir_folder: Path, tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "documents").mkdir()
    shutil.copy(beir_folder / "corpus.jsonl", tmp_path / "documents")
    config = configured(tmp_path / "documents", tmp_path / "out", tiny_model, synthesize={"min_words": 3})
    *_, trained = carry_out_up_to("train", config)
    found = lists(tmp_path / "out" / "mine")
    assert trained["steps"] == 2
    assert len(found) > 50
    assert all(query_id.startswith("synthetic-") for query_id in found)


def test_a_corpus_alone_without_synthesis_is_refused_before_the_work(
    beir_folder: Path, tmp_path: Path, tiny_model: Path
) -> None:
    (tmp_path / "documents").mkdir()
    shutil.copy(beir_folder / "corpus.jsonl", tmp_path / "documents")
    with pytest.raises(UserError, match=r"(?s)no train split.*mine\.synthesize makes queries from documents"):
        carry_out_up_to("mine", configured(tmp_path / "documents", tmp_path / "out", tiny_model))
    assert not (tmp_path / "out" / "first_stage").exists()


def test_what_a_generator_cost_before_the_run_stopped_is_told_by_the_next(
    collection: Collection, bm25: Bm25, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Titles:
        """Answers with the words that a document begins with."""

        prompts = 0

        def complete(self, prompts: Sequence[Messages], **settings: Any) -> list[Reply]:
            self.prompts += len(prompts)
            shown = [messages[-1]["content"] for messages in prompts]
            return [Reply(" ".join(text.partition("write for:\n")[2].split()[:3])) for text in shown]

        def report(self) -> dict[str, Any]:
            return {"prompts": self.prompts, "cost": 0.25 * self.prompts}

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("secondstage.mine.synthesis.stage.open_generator", lambda config, cache: Titles())
    write_json(tmp_path / COSTS / GENERATORS / "0.json", {"local other": {"prompts": 7}})
    settings: dict[str, Any] = {"synthesize": {"generator": "local", "model": "m", "min_words": 3, "documents": 9}}
    with monkeypatch.context() as patch:
        patch.setattr("secondstage.mine.stage.write_lists", stop)
        with pytest.raises(KeyboardInterrupt):
            mined(collection, bm25, tmp_path / "stopped", **settings)
    told = mined(collection, bm25, tmp_path / "mined", **settings)
    assert told["synthesis"] == {
        "generator": "local m", "prompts": 2 * 27, "cost": 2 * 27 * 0.25, "others": {"local other": {"prompts": 7}}
    }  # fmt: skip
    again = mined(collection, bm25, tmp_path / "again", **settings)
    assert again["synthesis"] == {"generator": "local m", "prompts": 27, "cost": 27 * 0.25}


def test_costs_are_in_the_manifest_and_not_in_the_audit(
    collection: Collection, bm25: Bm25, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(tmp_path / COSTS / "1.json", {"t0": {"pairs_scored": 1000, "pairs_found": 1}})
    teacher = Overlap()
    settings: dict[str, Any] = {"teachers": teach(monkeypatch, teacher), "depth": 12}
    first = mined(collection, bm25, tmp_path / "first", **settings)
    scored = len(teacher.known)
    assert first["teachers"] == {"t0": {"pairs_scored": scored + 1000, "pairs_found": teacher.found + 1}}
    teacher.scored = teacher.found = 0
    second = mined(collection, bm25, tmp_path / "second", **settings)
    assert second["teachers"] == {"t0": {"pairs_scored": 0, "pairs_found": scored}}
    assert "teachers" not in mined(collection, bm25, tmp_path / "none")
    for file in ("audit.json", "audit.html", "suspicious.tsv", "train/00000.arrow"):
        assert file_digest(tmp_path / "first" / file) == file_digest(tmp_path / "second" / file), file


class Failing(Overlap):
    """Gives up at its third list."""

    def score(self, query: str, text: str) -> float:
        if len(self.lists) > 2:
            raise UserError("the teacher has no more to say")
        return super().score(query, text)


def test_what_a_failed_run_paid_is_told_by_the_next(
    collection: Collection, bm25: Bm25, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secondstage.mine.search.QUERIES_PER_SHARD", 2)
    failing = Failing()
    with pytest.raises(UserError, match="no more to say"):
        mined(collection, bm25, tmp_path / "failing", depth=4, teachers=teach(monkeypatch, failing))
    teacher = Overlap()
    manifest = mined(collection, bm25, tmp_path / "mined", depth=4, teachers=teach(monkeypatch, teacher))
    assert failing.scored > 0
    assert manifest["teachers"]["t0"]["pairs_scored"] == teacher.scored + failing.scored


class Picky(Overlap):
    """Agrees to every other title; all else it takes for as good as the positive."""

    def score(self, query: str, text: str) -> float:
        if query.split()[-1] == text.split()[0]:  # the positive of a title, without it
            return 9.0 if sum(map(ord, query)) % 2 else 0.0
        return super().score(query, text)


def test_candidates_and_queries_that_a_teacher_drops_are_told_apart(
    collection: Collection, bm25: Bm25, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {
        "teachers": teach(monkeypatch, Picky()),
        "synthesize": {"min_words": 3, "teacher_rank": 1},
    }
    manifest = mined(collection, bm25, tmp_path / "mined", **settings)
    dropped = Counter(c.decision for x in lists(tmp_path / "mined").values() for c in x.with_role(DROPPED))
    queries = Counter(query.rule for query in read_records(tmp_path / "mined" / SYNTHETIC))
    counts = read_json(tmp_path / "mined" / "audit.json")["counts"]
    assert dropped["teacher"] == manifest["dropped_teacher"] == counts["dropped_teacher"] > 0
    assert queries["teacher"] == manifest["synthesis_counts"]["dropped_teacher"] > 0
    assert queries["teacher"] == counts["synthetic_dropped_teacher"] != dropped["teacher"]
    assert queries[""] > 0


def test_reviews_without_effect_are_counted(beir_folder: Path, tmp_path: Path) -> None:
    collection = changed(beir_folder, tmp_path, train=["q-bread-0 winter-7 1", "q-bread-0 winter-4 0"])
    bm25 = Bm25.build(Bm25Config(), collection.documents)
    rows = [
        "q-bread-0 bread-0 0",  # found
        "q-bread-0 winter-6 yes",  # not found, but a positive now
        "q-bread-0 winter-7 no",  # not found, and no positive any more
        "q-bread-0 winter-5 no",  # not found, and never a positive
        "q-bread-0 winter-4 no",  # the same, in the qrels
        "q-bread-2 bread-0 1",  # of dev
    ]
    manifest = mined(collection, bm25, tmp_path / "mined", reviewed=review(tmp_path / "reviewed.tsv", *rows))
    assert manifest["reviewed_without_effect"] == 3
    found = lists(tmp_path / "mined")["q-bread-0"]
    assert [c.doc_id for c in found.with_role(POSITIVE)] == ["winter-6"]
    assert read_json(tmp_path / "mined" / "audit.json")["counts"]["reviewed_without_effect"] == 3
    assert "reviewed_without_effect" not in mined(collection, bm25, tmp_path / "without")


def test_lists_that_teach_nothing_leave_an_audit_and_no_lists(
    beir_folder: Path, tmp_path: Path, tiny_model: Path
) -> None:
    output = tmp_path / "out"
    with pytest.raises(UserError, match=r"32 training lists .* dropped max score.*loosen these rules") as caught:
        carry_out_up_to("mine", configured(beir_folder, output, tiny_model, max_score=-1.0))
    page = output / FAILED / "audit.html"
    assert str(page) in str(caught.value)
    assert "max score" in page.read_text()
    assert read_json(output / FAILED / "audit.json")["lists"] == 32
    assert {path.name for path in output.iterdir() if "mine" in path.name} == set()
    # What shows a failure goes when it is mended.
    carry_out_up_to("mine", configured(beir_folder, output, tiny_model))
    assert read_manifest(output / "mine", "mine")["lists"] == 32
    assert not (output / FAILED).exists()


def test_a_synthesis_that_keeps_nothing_leaves_what_it_made(
    beir_folder: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Disagrees(Overlap):
        """Puts a title's document last."""

        def score(self, query: str, text: str) -> float:
            return -float(query.split()[-1] == text.split()[0])

    monkeypatch.setattr("secondstage.learning.mined_from", lambda config, output: {})
    settings: dict[str, Any] = {"teachers": teach(monkeypatch, Disagrees()), "synthesize": {"min_words": 3}}
    dumped = {name: config.model_dump() for name, config in settings["teachers"].items()}
    output = tmp_path / "out"
    config = configured(beir_folder, output, tiny_model, **{**settings, "teachers": dumped})
    with pytest.raises(UserError, match=r"(?s)none passed the filters.*ranked too low by the teacher") as caught:
        carry_out_up_to("mine", config)
    kept = output / FAILED / SYNTHETIC
    assert f"{kept} has all of them" in str(caught.value)
    assert {query.rule for query in read_records(kept)} >= {"teacher"}
    assert not any(query.kept for query in read_records(kept))
    assert not (output / "mine").exists()
