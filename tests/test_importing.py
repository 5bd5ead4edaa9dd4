"""Imports: a file of another toolkit becomes a collection that can be mined and trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from secondstage.collection import Collection
from secondstage.config import Bm25Config, FirstStageConfig, MineConfig
from secondstage.errors import UserError
from secondstage.exchange import export_lists, import_lists
from secondstage.exchange.importing import text_id
from secondstage.exchange.rows import write_rows
from secondstage.firststage import build
from secondstage.firststage.bm25 import Bm25
from secondstage.lists import NEGATIVE, POSITIVE, read_index, read_lists, write_lists
from secondstage.mine import Source, mine
from secondstage.run import read_trec

QUERIES = {"how to knead dough": ("knead the dough well", "dough rests an hour"), "brake a bike": ("pull the brake",)}
NEGATIVES = ("dough for a bike", "brake the dough")


def bge_file(path: Path, **more: Any) -> Path:
    rows = [{"query": query, "pos": list(pos), "neg": list(NEGATIVES), **more} for query, pos in QUERIES.items()]
    write_rows(path / "in.jsonl", rows)
    return path / "in.jsonl"


def written(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def as_noted(notes: list[str], folder: Path) -> Path:
    """The lists that are mined with the config that the notes of an import give."""
    (told,) = (note for note in notes if note.startswith("to train on these candidates: "))
    config = yaml.safe_load(f"{{{told.partition(': ')[2].partition(';')[0]}}}")
    collection = Collection.read(config["collection"], folder / "collection", dev_share=0.0)
    first_stage = build(
        FirstStageConfig.from_json(config["first_stage"]), collection.documents, queries=collection.queries
    )
    (folder / "mine").mkdir()
    source = Source(collection, first_stage, "run", MineConfig.from_json(config["mine"]), 1, folder)
    mine(source, folder / "mine", dev_depth=5)
    return folder / "mine"


def test_a_file_becomes_a_collection(tmp_path: Path) -> None:
    notes = import_lists(bge_file(tmp_path), "bge", tmp_path / "out")
    assert "2 queries, 5 documents, 3 positives, 4 negatives" in notes[0]
    collection = Collection.read(tmp_path / "out", tmp_path / "collection", dev_share=0.0)
    assert sorted(collection.queries.values()) == sorted(QUERIES)
    assert len(collection.documents) == 5
    judged = {
        collection.queries[query_id]: {collection.documents.by_id(doc_id).text: grade for doc_id, grade in docs.items()}
        for query_id, docs in collection.split("train").items()
    }
    assert judged == {query: dict.fromkeys(texts, 1) for query, texts in QUERIES.items()}


def test_the_candidates_are_a_run_without_an_order(tmp_path: Path) -> None:
    import_lists(bge_file(tmp_path), "bge", tmp_path / "out")
    lines = [line.split() for line in (tmp_path / "out" / "given.trec").read_text().splitlines()]
    assert {(line[4], line[5]) for line in lines} == {("0.0", "given")}
    run = read_trec(tmp_path / "out" / "given.trec")
    for query, positives in QUERIES.items():
        ranking = run[text_id("q", query)]
        assert set(ranking.doc_ids) == {text_id("d", text) for text in (*positives, *NEGATIVES)}
        assert set(ranking.retrievers) == {"given"}


def test_the_lists_keep_the_teacher_s_scores(tmp_path: Path) -> None:
    path = written(
        tmp_path / "in.jsonl",
        [
            {"query": "a", "pos": ["p"], "neg": ["n"], "pos_scores": [2.5], "neg_scores": [-1.5]},
            {"query": "b", "pos": ["p"], "neg": []},
        ],
    )
    notes = import_lists(path, "bge", tmp_path / "out")
    assert any(f"the teacher's scores are in {tmp_path / 'out' / 'teacher.trec'}" in note for note in notes)
    assert [line.split() for line in (tmp_path / "out" / "teacher.trec").read_text().splitlines()] == [
        [text_id("q", "a"), "Q0", text_id("d", "p"), "1", "2.5", "teacher"],
        [text_id("q", "a"), "Q0", text_id("d", "n"), "2", "-1.5", "teacher"],
    ]
    assert read_index(tmp_path / "out" / "lists").teachers == ("given",)
    first, second = read_lists(tmp_path / "out" / "lists")
    assert [(c.role, c.relevance, c.judged, c.teacher_score, c.teacher_scores) for c in first.candidates] == [
        (POSITIVE, 1, True, 2.5, (2.5,)),
        (NEGATIVE, 0, False, -1.5, (-1.5,)),
    ]
    assert [c.teacher_scores for c in second.candidates] == [(None,)]
    notes = import_lists(bge_file(tmp_path / "plain"), "bge", tmp_path / "plain" / "out")
    assert not any("scores" in note for note in notes)
    assert read_index(tmp_path / "plain" / "out" / "lists").teachers == ()
    assert not (tmp_path / "plain" / "out" / "teacher.trec").exists()


def test_a_teacher_s_scores_are_learnt_from_as_the_note_says(tmp_path: Path) -> None:
    """Also one that the teacher puts above the positive stays the negative that it was given as."""
    rows = [{"query": "a", "pos": ["p"], "neg": ["n", "m"], "pos_scores": [0.5], "neg_scores": [-1.5, 2.25]}]
    notes = import_lists(written(tmp_path / "in.jsonl", rows), "bge", tmp_path / "out")
    mined = as_noted(notes, tmp_path)
    (found,) = read_lists(mined / "train")
    assert {c.doc_id: (c.role, c.teacher_score) for c in found.candidates} == {
        text_id("d", "p"): (POSITIVE, 0.5),
        text_id("d", "n"): (NEGATIVE, -1.5),
        text_id("d", "m"): (NEGATIVE, 2.25),
    }
    assert read_index(mined / "train").teachers == ("given",)
    assert any("train: {loss: {kl: 1, lce: 0.2}}" in note for note in notes)


@pytest.mark.parametrize("form", ["triplet", "n-tuple", "labeled-list", "bge"])
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_lists_that_were_exported_come_back(tmp_path: Path, collection: Collection, form: str, suffix: str) -> None:
    (tmp_path / "run" / "mine").mkdir(parents=True)
    bm25 = Bm25.build(Bm25Config(), collection.documents)
    config = MineConfig(negatives=3, max_share=None)
    mine(Source(collection, bm25, "bm25", config, 1, tmp_path), tmp_path / "run" / "mine", dev_depth=5)
    out = tmp_path / f"lists{suffix}"
    export_lists(tmp_path / "run", form, out, collection=collection.folder)
    import_lists(out, form, tmp_path / "imported")
    again = Collection.read(tmp_path / "imported", tmp_path / "again", dev_share=0.0)

    def sides(folder: Path, texts: Collection) -> dict[str, list[set[str]]]:
        return {
            texts.queries[found.query_id]: [
                set(texts.documents.contents([c.doc_id for c in found.with_role(role)]))
                for role in (POSITIVE, NEGATIVE)
            ]
            for found in read_lists(folder)
        }

    assert sides(tmp_path / "imported" / "lists", again) == sides(tmp_path / "run" / "mine" / "train", collection)


def test_an_imported_collection_can_be_mined(tmp_path: Path) -> None:
    import_lists(bge_file(tmp_path), "bge", tmp_path / "out")
    collection = Collection.read(tmp_path / "out", tmp_path / "collection", dev_share=0.0)
    (tmp_path / "mine").mkdir()
    bm25 = Bm25.build(Bm25Config(), collection.documents)
    source = Source(collection, bm25, "bm25", MineConfig(max_share=None), 1, tmp_path)
    counts = mine(source, tmp_path / "mine", dev_depth=5)
    assert counts["positives"] == 3


def test_training_as_the_note_says_takes_every_candidate(tmp_path: Path) -> None:
    rows = [
        {
            "query": f"query {i}",
            "pos": [f"positive {i} {j}" for j in range(3)],
            "neg": [f"n {j}" for j in range(i, 100)],
        }
        for i in range(3)
    ]
    notes = import_lists(written(tmp_path / "in.jsonl", rows), "bge", tmp_path / "out")
    lists = list(read_lists(as_noted(notes, tmp_path) / "train"))
    assert sorted(len(found.with_role(NEGATIVE)) for found in lists) == [98, 99, 100]
    assert all(candidate.rank for found in lists for candidate in found.with_role(POSITIVE))


def test_rows_of_one_query_are_one_list_and_a_positive_is_no_negative(tmp_path: Path) -> None:
    rows = [("q", "p1", "n1"), ("other", "p3", "n1"), ("q", "p2", "p1"), ("q", "p1", "n1")]
    lines = [dict(zip(("anchor", "positive", "negative"), row, strict=True)) for row in rows]
    notes = import_lists(written(tmp_path / "in.jsonl", lines), "triplet", tmp_path / "out")
    assert "2 queries, 4 documents, 3 positives, 2 negatives" in notes[0]
    assert any("taken as positives: 1 times" in note for note in notes)
    found = {item.query_id: item for item in read_lists(tmp_path / "out" / "lists")}[text_id("q", "q")]
    roles = {candidate.doc_id: candidate.role for candidate in found.candidates}
    assert roles == {text_id("d", "p1"): POSITIVE, text_id("d", "n1"): NEGATIVE, text_id("d", "p2"): POSITIVE}


def test_grades_of_a_labeled_list_are_kept(tmp_path: Path) -> None:
    lines = [
        {"query": "q", "docs": ["a", "b", "c"], "labels": [3, 0, 1]},
        {"query": "none", "docs": ["a"], "labels": [0]},
    ]
    notes = import_lists(written(tmp_path / "in.jsonl", lines), "labeled-list", tmp_path / "out")
    assert "left out: 1 rows without a positive" in notes
    qrels = (tmp_path / "out" / "qrels" / "train.tsv").read_text().splitlines()[1:]
    assert qrels == [f"{text_id('q', 'q')}\t{text_id('d', text)}\t{grade}" for text, grade in (("a", 3), ("c", 1))]


def test_all_faults_are_told_with_their_lines_and_nothing_is_written(tmp_path: Path) -> None:
    lines = [
        {"query": "q", "pos": ["p"], "neg": ["n"]},
        "{broken",
        {"query": "", "pos": ["p"]},
        {"query": "q", "pos": ["p"], "neg": ["n"], "neg_scores": []},
        {"query": "q"},
    ]
    path = written(tmp_path / "in.jsonl", lines)
    with pytest.raises(UserError) as error:
        import_lists(path, "bge", tmp_path / "out")
    said = str(error.value)
    assert "4 faults" in said
    for number, part in ((2, "not JSON"), (3, "empty text"), (4, "'neg_scores' must be a list"), (5, "no 'pos'")):
        assert any(f"{path}:{number}: " in line and part in line for line in said.splitlines())
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.jsonl"]


def test_an_import_is_replaced_and_anything_else_is_left_alone(tmp_path: Path) -> None:
    path = bge_file(tmp_path)
    first, second = (import_lists(path, "bge", tmp_path / "out") for _ in range(2))
    assert first == second
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is left alone"):
        import_lists(path, "bge", tmp_path / "mine")
    with pytest.raises(UserError, match="there is no format 'trec' to read"):
        import_lists(path, "trec", tmp_path / "new")
    with pytest.raises(UserError, match="holds no list with a positive"):
        import_lists(written(tmp_path / "empty.jsonl", []), "bge", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_id_is_the_text_s_alone() -> None:
    assert text_id("d", "text") == text_id("d", "text")
    assert len({text_id(letter, text) for letter in "dq" for text in ("a", "b", "a ")}) == 6
    assert text_id("d", "text")[1:] == "982d9e3eb996f559e633"  # sha256sum


def test_an_import_can_be_exported_again(tmp_path: Path) -> None:
    import_lists(bge_file(tmp_path), "bge", tmp_path / "out")
    collection = Collection.read(tmp_path / "out", tmp_path / "collection", dev_share=0.0)
    write_lists(tmp_path / "mine" / "train", read_lists(tmp_path / "out" / "lists"))
    export_lists(tmp_path / "mine", "bge", tmp_path / "again.jsonl", collection=collection.folder)
    rows = [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()]
    assert {row["query"]: tuple(row["pos"]) for row in rows} == QUERIES
