"""Exports of a run's lists: what other toolkits get, fed to their own losses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from secondstage.collection import Collection
from secondstage.errors import Faults, UserError
from secondstage.exchange import export_lists
from secondstage.exchange.rows import read_rows
from secondstage.lists import DROPPED, IGNORED, NEGATIVE, POSITIVE, Candidate, TrainingList, write_lists
from secondstage.run import read_trec
from secondstage.synthetic import SYNTHETIC, SyntheticQuery, write_synthetic


def candidate(doc_id: str, rank: int, role: str, relevance: int = 0, **more: Any) -> Candidate:
    score = float(10 - rank) if rank else 0.0
    found = Candidate(
        doc_id, relevance, relevance > 0, "bm25" if rank else "qrels", rank, score, role, "x", score, (score,)
    )
    return found._replace(**more)


LISTS = [
    TrainingList(
        "q-bread-0",
        (
            candidate("bread-0", 2, POSITIVE, 2),
            candidate("bread-1", 0, POSITIVE, 1),
            candidate("bread-2", 1, NEGATIVE),
            candidate("bread-3", 3, NEGATIVE),
            candidate("bread-4", 4, DROPPED),
            candidate("bread-5", 5, IGNORED),
        ),
    ),
    TrainingList(
        "q-river-1",
        (
            candidate("river-1", 1, POSITIVE, 1),
            candidate("river-2", 2, POSITIVE, decision="teacher"),
            candidate("river-3", 3, NEGATIVE, judged=True),
            candidate("river-4", 4, NEGATIVE, teacher_score=None),
        ),
    ),
    TrainingList("q-chess-0", (candidate("chess-0", 1, POSITIVE, 1), candidate("chess-1", 2, NEGATIVE))),
    TrainingList("q-piano-0", (candidate("piano-0", 1, POSITIVE, 1), candidate("piano-1", 2, DROPPED))),
]


@pytest.fixture
def mined(tmp_path: Path, collection: Collection) -> Path:
    """The output folder of a run."""
    write_lists(tmp_path / "run" / "mine" / "train", LISTS, ["teacher"])
    (tmp_path / "run" / "collection").symlink_to(collection.folder.resolve())
    return tmp_path / "run"


def exported(folder: Path, form: str, suffix: str = ".jsonl", **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    out = folder.parent / f"{form}{len(list(folder.parent.iterdir()))}{suffix}"
    notes = export_lists(folder, form, out, **options)
    return [dict(row) for _, row in read_rows(out, Faults("rows"))], notes


def test_bge_gets_the_contents_of_positives_and_negatives(mined: Path, collection: Collection) -> None:
    rows, notes = exported(mined, "bge")
    contents = collection.documents.contents
    assert rows[0] == {
        "query": collection.queries["q-bread-0"],
        "pos": contents(["bread-0", "bread-1"]),
        "neg": contents(["bread-2", "bread-3"]),
    }
    assert len(rows) == 3
    assert "3 rows of 3 lists, as bge" in notes[0]
    assert notes[1:] == [
        "left out: 1 lists without a positive or with fewer than 1 negatives",
        "left out: 1 ignored candidates: other toolkits have no mask for them",
    ]
    scored, notes = exported(mined, "bge", scores=True)
    assert scored[1]["pos_scores"] == [9.0, 8.0]
    assert scored[1]["neg_scores"] == [7.0]
    assert notes[-1] == "left out: 1 candidates without a teacher's score"


def test_several_graded_positives_stay_one_list(mined: Path) -> None:
    rows, _ = exported(mined, "labeled-list")
    # A positive that a rule made has grade 1.
    assert [row["labels"] for row in rows] == [[2, 1, 0, 0], [1, 1, 0, 0], [1, 0]]


def test_an_n_tuple_has_what_most_lists_have_or_what_was_asked(mined: Path) -> None:
    rows, notes = exported(mined, "n-tuple")
    assert [len(row) for row in rows] == [4, 4, 4, 4]
    assert "4 rows of 2 lists, 2 negatives each, as n-tuple" in notes[0]
    rows, _ = exported(mined, "n-tuple", negatives=1)
    assert len(rows) == 5
    with pytest.raises(UserError, match="nothing to export"):
        exported(mined, "n-tuple", negatives=9)


def test_with_scores_an_n_tuple_has_what_the_teacher_scored(mined: Path) -> None:
    """One of two negatives in most lists."""
    lists = [
        TrainingList(
            one.query_id,
            tuple(
                c._replace(teacher_score=None if c.role == NEGATIVE and i % 2 else 1.0)
                for i, c in enumerate(one.candidates)
            ),
        )
        for one in LISTS[:2]
    ]
    shutil.rmtree(mined / "mine" / "train")
    write_lists(mined / "mine" / "train", lists, ["teacher"])
    rows, notes = exported(mined, "n-tuple", scores=True)
    assert rows
    assert "1 negatives each" in notes[0]


def test_the_mine_folder_alone_will_do(mined: Path, collection: Collection, tmp_path: Path) -> None:
    assert exported(mined / "mine", "triplet")[0] == exported(mined, "triplet")[0]
    write_lists(tmp_path / "elsewhere" / "train", LISTS)
    rows, _ = exported(tmp_path / "elsewhere", "triplet", ".parquet", collection=collection.folder)
    assert rows == exported(mined, "triplet")[0]


def test_synthetic_queries_are_exported_as_training_reads_them(mined: Path, collection: Collection) -> None:
    """A title that became a query is not in its document, and the others are without their own titles."""
    document = collection.documents.by_id("bread-1")
    made = SyntheticQuery("synthetic-1", document.title, "bread-1", "title", "title")
    asked = SyntheticQuery("synthetic-2", "What rises?", "bread-1", "question", "tiny")
    write_synthetic(mined / "mine" / SYNTHETIC, [made, asked])
    candidates = (candidate("bread-1", 1, POSITIVE, 1), candidate("bread-2", 2, NEGATIVE))
    shutil.rmtree(mined / "mine" / "train")
    lists = [TrainingList(query_id, candidates) for query_id in ("synthetic-1", "synthetic-2")]
    write_lists(mined / "mine" / "train", [*lists, LISTS[2]])
    rows, _ = exported(mined, "bge")
    negative = collection.documents.by_id("bread-2")
    assert rows[0] == {"query": document.title, "pos": [document.text], "neg": [negative.text]}
    assert rows[1] == {"query": "What rises?", "pos": [document.content], "neg": [negative.content]}
    assert len(rows) == 3


def test_trec_has_all_that_was_found_and_all_that_is_judged(mined: Path, tmp_path: Path) -> None:
    (note,) = export_lists(mined, "trec", tmp_path / "trec")
    assert "run.trec with 13 candidates, qrels.trec with 7 judgements" in note
    run = read_trec(tmp_path / "trec" / "run.trec")
    assert run["q-bread-0"].doc_ids == ("bread-2", "bread-0", "bread-3", "bread-4", "bread-5")
    assert run["q-bread-0"].scores.tolist() == [9, 8, 7, 6, 5]
    assert (tmp_path / "trec" / "qrels.trec").read_text().splitlines() == [
        "q-bread-0 0 bread-0 2",
        "q-bread-0 0 bread-1 1",
        "q-river-1 0 river-1 1",
        "q-river-1 0 river-2 1",
        "q-river-1 0 river-3 0",
        "q-chess-0 0 chess-0 1",
        "q-piano-0 0 piano-0 1",
    ]
    with pytest.raises(UserError, match="is there already and is left alone"):
        export_lists(mined, "trec", tmp_path / "trec")


@pytest.mark.parametrize(
    ("form", "options", "message"),
    [
        ("csv", {}, "there is no format 'csv': give one of bge, triplet"),
        ("trec", {"scores": True}, "leave out --scores"),
        ("bge", {"negatives": 3}, "--negatives is for n-tuple"),
        ("n-tuple", {"negatives": 0}, "at least one negative"),
    ],
)
def test_a_mistake_is_told_in_words(mined: Path, form: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        export_lists(mined, form, mined / "out.jsonl", **options)
    assert not (mined / "out.jsonl").exists()


def test_folders_without_lists_or_teachers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no training lists"):
        export_lists(tmp_path, "bge", tmp_path / "out.jsonl")
    write_lists(tmp_path / "mine" / "train", [])
    with pytest.raises(UserError, match="is empty"):
        export_lists(tmp_path, "bge", tmp_path / "out.jsonl")
    write_lists(tmp_path / "other" / "train", LISTS)
    with pytest.raises(UserError, match="no teacher scored"):
        export_lists(tmp_path / "other", "bge", tmp_path / "out.jsonl", scores=True)


@pytest.mark.parametrize(
    ("form", "loss", "scores"),
    [
        ("labeled-list", "LambdaLoss", False),
        ("labeled-list", "ListNetLoss", True),
        ("labeled-list", "RankNetLoss", True),
        ("triplet", "MultipleNegativesRankingLoss", False),
        ("triplet", "MarginMSELoss", True),
        ("n-tuple", "MultipleNegativesRankingLoss", False),
        ("n-tuple", "MarginMSELoss", True),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_sentence_transformers_takes_them(
    mined: Path, tiny_model: Path, form: str, loss: str, scores: bool, suffix: str
) -> None:
    import torch
    from datasets import load_dataset
    from sentence_transformers.cross_encoder import CrossEncoder, losses
    from sentence_transformers.cross_encoder.data_collator import CrossEncoderDataCollator

    out = mined / f"out{suffix}"
    # Each list has two scored negatives at the most; one scored negative is in all of them.
    export_lists(mined, form, out, scores=scores, negatives=1 if form == "n-tuple" else None)
    builder = "parquet" if suffix == ".parquet" else "json"
    rows = load_dataset(builder, data_files=str(out), split="train", cache_dir=str(mined / "cache"))
    model = CrossEncoder(str(tiny_model), num_labels=1, device="cpu")
    batch = CrossEncoderDataCollator(preprocess_fn=model.preprocess)([dict(row) for row in rows])
    labels = batch.pop("label", None)
    assert (labels is not None) == (scores or form == "labeled-list")
    made = getattr(losses, loss)(model)
    value = made(list(batch.values()), labels)
    assert torch.isfinite(value)
    value.backward()
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())
