"""From what a server kept to what the next training reads; and a training that reads it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from secondstage.cli import main
from secondstage.collection import Collection, Document
from secondstage.config import ServerConfig, TrainConfig
from secondstage.errors import Faults, UserError
from secondstage.exchange import export_lists
from secondstage.files import folder_digests, read_manifest
from secondstage.lists import NEGATIVE, POSITIVE, TrainingList, has_labels, read_lists
from secondstage.mine.review import read_reviewed
from secondstage.serve import Pipeline
from secondstage.serve.feedback import make_feedback
from secondstage.serve.feedback.make import record_of
from secondstage.serve.server.judgements import Judgements
from secondstage.serve.server.observer import Observer
from secondstage.serve.server.signals import Judged, Searched
from secondstage.sources.records import to_document
from secondstage.train import Task, train

# Queries that the collection does not have, and some of them in other words.
ASKED = ("dough knead bread", "tyre spoke bicycle", "weed compost garden", "melody hammer piano")


@pytest.fixture(scope="module")
def served(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a server kept: a journal of four searches; a click on the third result of each."""
    folder, bundle = tmp_path_factory.mktemp("served"), run_folder / "bundle"
    pipeline = Pipeline.load(bundle)
    observer = Observer.open(ServerConfig.from_json({"journal": str(folder / "journal.jsonl")}), pipeline, bundle)
    judgements = Judgements(folder / "judgements.jsonl")
    for number, query in enumerate(ASKED):
        answer = pipeline.answer(query)
        observer.searched(Searched(f"s{number}", query, answer, 0.0, 1.0))
        judgements.add(Judged(f"s{number}", query, answer.results[2].doc_id, 1, "click"))
        judgements.add(Judged(f"s{number}", query, answer.results[0].doc_id, 1, "click"))
    judgements.add(Judged("s3", ASKED[3], "winter-0", 3, "judgement"))
    judgements.add(Judged(None, "flour of the BREAD!", "bread-3", 2, "judgement"))
    judgements.close()
    observer.close()
    return folder


@pytest.fixture(scope="module")
def made(run_folder: Path, served: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("feedback") / "out"
    make_feedback(files(served), run_folder / "bundle", output)
    return output


def files(served: Path) -> list[Path]:
    return [served / "judgements.jsonl", served / "journal.jsonl"]


def shown(served: Path) -> dict[str, list[str]]:
    records = map(json.loads, (served / "journal.jsonl").read_text().splitlines())
    return {record["id"]: record["shown"] for record in records if record["kind"] == "search"}


def tuned(collection: Collection, mined: Path, model: Path, folder: Path) -> dict[str, Any]:
    settings = {"model": str(model), "steps": 3, "max_length": 32, "batch_tokens": 512, "precision": "fp32"}
    folder.mkdir()
    return train(Task(collection, mined, TrainConfig.from_json(settings), 13), folder)


def test_the_collection_has_what_was_said_in_its_train_split(
    run_folder: Path, served: Path, made: Path, tmp_path: Path
) -> None:
    before, after = Collection.load(run_folder / "collection"), Collection.read(made, tmp_path / "collection")
    assert after.documents.ids == before.documents.ids
    assert {split: after.qrels[split] for split in ("dev", "test")} == {
        split: before.qrels[split] for split in ("dev", "test")
    }
    added = {query_id: rows for query_id, rows in after.qrels["train"].items() if query_id not in before.qrels["train"]}
    by_text = {after.queries[query_id]: rows for query_id, rows in added.items()}
    lists = shown(served)
    third = {query: lists[f"s{number}"][2] for number, query in enumerate(ASKED)}
    assert by_text == {
        **{query: {doc_id: 1} for query, doc_id in third.items()},
        ASKED[3]: {"winter-0": 3, third[ASKED[3]]: 1},
    }
    # Known in other words, it keeps its id, and what was judged before.
    changed = [query_id for query_id, rows in before.qrels["train"].items() if after.qrels["train"][query_id] != rows]
    assert [before.queries[query_id] for query_id in changed] == ["flour of the bread"]
    assert after.qrels["train"][changed[0]] == {**before.qrels["train"][changed[0]], "bread-3": 2}


def test_the_lists_have_what_was_passed_over_as_negatives(made: Path, served: Path) -> None:
    found: dict[str, TrainingList] = {each.query_id: each for each in read_lists(made / "mine" / "train")}
    assert len(found) == 5
    skipped = {each[1] for each in shown(served).values()}
    roles = {c.doc_id: c.role for each in found.values() for c in each.candidates if c.decision == "skipped"}
    assert roles == dict.fromkeys(skipped, NEGATIVE)
    for each in found.values():
        assert len(each.with_role(POSITIVE)) >= 1
        ranks = [c.rank for c in each.candidates if c.rank]
        assert ranks == list(range(1, 21))
        scores = [c.score for c in each.candidates if c.rank]
        assert scores == sorted(scores, reverse=True)
    assert sum(map(has_labels, found.values())) == 4


def test_what_was_passed_over_is_a_reviewed_sample(made: Path, served: Path, tmp_path: Path) -> None:
    collection = Collection.read(made, tmp_path / "collection")
    found = read_reviewed(made / "reviewed.tsv", collection.queries, collection.documents)
    lists = shown(served)
    ids = {text: query_id for query_id, text in collection.queries.items()}
    assert found == {ids[query]: {lists[f"s{number}"][1]: 0} for number, query in enumerate(ASKED)}


def test_the_next_round_may_overturn_clicks_and_no_judgement(
    run_folder: Path, made: Path, served: Path, tmp_path: Path
) -> None:
    """People click what they passed over before, and pass over what they clicked."""
    collection, lists = Collection.read(made, tmp_path / "collection"), shown(served)
    third = {query: lists[f"s{number}"][2] for number, query in enumerate(ASKED)}
    ids = {text: query_id for query_id, text in collection.queries.items()}
    assert collection.clicked == {ids[query]: {doc_id} for query, doc_id in third.items()}
    said, journal = Judgements(tmp_path / "judgements.jsonl"), tmp_path / "journal.jsonl"
    other = next(doc_id for doc_id in collection.documents.ids if doc_id not in (*lists["s3"], "winter-0"))
    seen = [third[ASKED[3]], "winter-0", other]
    journal.write_text(json.dumps({"kind": "search", "id": "t3", "shown": seen}) + "\n")
    said.add(Judged("t3", ASKED[3], other, 1, "click"))
    said.close()
    make_feedback([tmp_path / "judgements.jsonl", journal], run_folder / "bundle", tmp_path / "next",
                  collection=tmp_path / "collection")  # fmt: skip
    after = Collection.read(tmp_path / "next", tmp_path / "after")
    assert after.qrels["train"][ids[ASKED[3]]] == {"winter-0": 3, other: 1}
    assert after.clicked == {**collection.clicked, ids[ASKED[3]]: {other}}
    assert {key: rows for key, rows in after.qrels["train"].items() if key != ids[ASKED[3]]} == {
        key: rows for key, rows in collection.qrels["train"].items() if key != ids[ASKED[3]]
    }


def test_documents_that_the_bundle_lacks_are_in_no_list(
    run_folder: Path, beir_folder: Path, served: Path, tmp_path: Path
) -> None:
    """The collection judged documents that were taken out since; the journal shows one as well."""
    shutil.copytree(beir_folder, tmp_path / "grown")
    qrels = tmp_path / "grown" / "qrels" / "train.tsv"
    stored = Collection.load(run_folder / "collection")
    known = next(query_id for query_id in stored.qrels["train"] if stored.queries[query_id] == "flour of the bread")
    with (tmp_path / "grown" / "corpus.jsonl").open("a") as corpus, qrels.open("a") as rows:
        for doc_id, relevance in (("gone-0", 1), ("gone-1", 0)):
            corpus.write(json.dumps({"_id": doc_id, "title": "", "text": f"bread that is {doc_id}"}) + "\n")
            rows.write(f"{known}\t{doc_id}\t{relevance}\n")
    Collection.read(tmp_path / "grown", tmp_path / "collection")
    journal = (served / "journal.jsonl").read_text().replace(shown(served)["s0"][1], "gone-0")
    (tmp_path / "journal.jsonl").write_text(journal)
    said = make_feedback([served / "judgements.jsonl", tmp_path / "journal.jsonl"], run_folder / "bundle",
                         tmp_path / "out", collection=tmp_path / "collection")  # fmt: skip
    assert "left out: 2 judgements of the collection, of documents that the bundle does not have" in said
    lists = {each.query_id: each for each in read_lists(tmp_path / "out" / "mine" / "train")}
    assert "bread-3" in {c.doc_id for c in lists[known].candidates}
    after = Collection.read(tmp_path / "out", tmp_path / "after")
    doc_ids = {c.doc_id for each in lists.values() for c in each.candidates}
    assert doc_ids <= set(after.documents.ids)
    read_reviewed(tmp_path / "out" / "reviewed.tsv", after.queries, after.documents)
    export_lists(tmp_path / "out", "bge", tmp_path / "bge.jsonl", collection=tmp_path / "after")
    # The folder is the collection of its lists; the one that was searched does not have their new queries.
    export_lists(tmp_path / "out", "bge", tmp_path / "own.jsonl")
    assert (tmp_path / "own.jsonl").read_bytes() == (tmp_path / "bge.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"'feedback-.* has no text in the collection: name the one that these lists"):
        export_lists(tmp_path / "out", "bge", tmp_path / "no.jsonl", collection=run_folder / "collection")
    assert not (tmp_path / "no.jsonl").exists()


def test_the_lists_are_trained_on(made: Path, tiny_model: Path, tmp_path: Path) -> None:
    collection = Collection.read(made, tmp_path / "collection")
    found = tuned(collection, made / "mine", tiny_model, tmp_path / "train")
    assert found["steps"] == 3
    losses = [json.loads(line)["loss"] for line in (tmp_path / "train" / "steps.jsonl").read_text().splitlines()]
    assert len(losses) == 3
    assert all(loss > 0 for loss in losses)


@pytest.mark.slow
def test_the_collection_is_mined_and_trained_on_by_the_command(
    made: Path, served: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """As the last line of the command says, and with what was passed over as negatives."""
    output = tmp_path / "run"
    config = {
        "output": str(output),
        "collection": {"source": "nowhere"},
        "first_stage": {"kind": "bm25"},
        "train": {"model": str(tiny_model), "steps": 3, "max_length": 32, "batch_tokens": 512, "precision": "fp32"},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    options = [f"collection.source={made}", f"mine.reviewed={made / 'reviewed.tsv'}"]
    assert main(["train", str(tmp_path / "config.yaml"), *options]) == 0
    queries = Collection.load(output / "collection").queries
    mined = {queries[each.query_id]: each for each in read_lists(output / "mine" / "train")}
    for number, query in enumerate(ASKED):
        roles = {c.doc_id: (c.role, c.decision) for c in mined[query].candidates}
        _, skipped, clicked = shown(served)[f"s{number}"][:3]
        assert (roles[skipped], roles[clicked][0]) == ((NEGATIVE, "review"), POSITIVE)
    assert read_manifest(output / "train", "train")["steps"] == 3


def test_the_command_says_what_was_made_and_left_out(
    run_folder: Path, served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, bundle = tmp_path / "out", run_folder / "bundle"
    arguments = ["feedback", *map(str, files(served)), str(bundle), "--output", str(output)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "2 judgements and 8 clicks; 5 queries with news, 4 positives by clicks" in said
    assert "4 lists with a positive and a negative, of 5" in said
    assert said.endswith(f" collection.source={output} mine.reviewed={output / 'reviewed.tsv'}\n")
    assert "4 negatives that were passed over for a positive" in said
    first = folder_digests(output)
    # Again: the folder is its own, and the same comes out. Without the journal, clicks say nothing.
    assert main(arguments) == 0
    assert folder_digests(output) == first
    capsys.readouterr()
    assert main(["feedback", str(served / "judgements.jsonl"), str(bundle), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert "2 judgements and 8 clicks; 2 queries with news, 0 positives by clicks" in said
    assert "left out: 8 clicks of searches that no journal has" in said
    assert main([*arguments, "--least", "2"]) == 0
    assert "2 queries with news, 0 positives by clicks" in capsys.readouterr().out


@pytest.mark.parametrize("metadata", ["", '{"half": "\\ud800", "lang": "de", "year": 1999}'])
def test_the_fields_of_a_document_stay(metadata: str) -> None:
    document, faults = Document("d1", "", "Wörter", metadata), Faults("corpus")
    assert to_document(json.loads(json.dumps(record_of(document))), "line 1", faults) == document
    assert faults.count == 0


def test_a_bundle_alone_is_enough(run_folder: Path, served: Path, tmp_path: Path) -> None:
    shutil.copytree(run_folder / "bundle", tmp_path / "alone" / "bundle")
    make_feedback(files(served), tmp_path / "alone" / "bundle", tmp_path / "out")
    collection = Collection.read(tmp_path / "out", tmp_path / "collection")
    assert set(collection.queries.values()) == {*ASKED, "flour of the BREAD!"}
    assert "test" not in collection.qrels


def test_mistakes_are_refused_before_any_work(
    run_folder: Path, served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, foreign = run_folder / "bundle", tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").touch()
    with pytest.raises(UserError, match="is left alone"):
        make_feedback(files(served), bundle, foreign)
    with pytest.raises(UserError, match="is not a bundle"):
        make_feedback(files(served), run_folder / "collection", tmp_path / "out")
    with pytest.raises(UserError, match="no judgement and no click in 4 searches"):
        make_feedback(files(served)[1:], bundle, tmp_path / "out")
    lonely = tmp_path / "lonely.jsonl"
    file = Judgements(lonely)
    file.add(Judged(None, "words", "nowhere", 1, "judgement"))
    file.close()
    with pytest.raises(UserError, match=r"nothing to train on follows(.|\n)*1 judgements and clicks of documents"):
        make_feedback([lonely], bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert main(["feedback", str(lonely), str(bundle), "--output", str(tmp_path / "out"), "--least", "0"]) == 2
    assert "--least 0: give at least 1" in capsys.readouterr().err
