"""What to expect: told before the first step, and nothing is learnt or drawn by telling."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from secondstage.collection import Collection
from secondstage.config import TrainConfig
from secondstage.lists import NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.run import Run
from secondstage.texts import PairTexts
from secondstage.train.advice import Data
from secondstage.train.loop import Loop
from secondstage.train.outlook import outlook
from secondstage.train.selection import Selection


def lists(collection: Collection) -> list[TrainingList]:
    found = []
    for query_id, judged in collection.split("train").items():
        positives = [Candidate(doc_id, 1, True, "bm25", 1, 1.0, POSITIVE) for doc_id in judged]
        others = [doc_id for doc_id in collection.documents.ids if doc_id not in judged][:7]
        negatives = [Candidate(doc_id, 0, False, "bm25", 2, 0.5, NEGATIVE) for doc_id in others]
        found.append(TrainingList(query_id, (*positives, *negatives)))
    return found


def loop(collection: Collection, tiny_model: Path, folder: Path) -> Loop:
    folder.mkdir()
    texts = PairTexts(collection.queries, collection.documents)
    settings = TrainConfig(model=str(tiny_model), steps=3, max_length=32, batch_tokens=256, precision="fp32")
    selection = Selection(Run("none", {}), {}, texts)
    return Loop(texts, lists(collection), selection, settings, seed=13, folder=folder)


def test_it_tells_and_changes_nothing(collection: Collection, tiny_model: Path, tmp_path: Path) -> None:
    told, plain = (loop(collection, tiny_model, tmp_path / name) for name in ("told", "plain"))
    lines = outlook(told, collection.queries, len(collection.documents))
    assert "32 lists" in lines[0]
    assert any("train.epochs" in line or "epoch" in line for line in lines)
    assert not any(parameter.grad is not None for parameter in told.weights.master.parameters())
    told.run()
    plain.run()
    for one, other in zip(told.weights.master.parameters(), plain.weights.master.parameters(), strict=True):
        assert torch.equal(one, other)
    for name in ("steps.jsonl", "dev.jsonl"):
        assert (tmp_path / "told" / name).read_text() == (tmp_path / "plain" / name).read_text()


def test_labels_are_of_the_queries_of_the_collection(
    collection: Collection, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folds measure on these alone, and not on queries that were made from documents, or of a log."""
    seen: list[tuple[int, int]] = []

    def advise(data: Data, *_: object, **__: object) -> list[str]:
        seen.append((data.lists, data.labelled))
        return []

    monkeypatch.setattr("secondstage.train.outlook.advise", advise)
    own, first = loop(collection, tiny_model, tmp_path / "own"), next(iter(collection.qrels["train"]))
    for queries in (collection.queries, {first}, {}):
        outlook(own, queries, 64)
    assert seen == [(32, 32), (32, 1), (32, 0)]


def test_a_training_that_goes_on_is_told_nothing(
    collection: Collection, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = loop(collection, tiny_model, tmp_path / "own")
    monkeypatch.setattr(own.checkpoints, "latest", lambda: 2)
    assert outlook(own, collection.queries, 64) == []
