"""The commands of training lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from secondstage.cli import main
from secondstage.collection import Collection
from secondstage.lists import Candidate, TrainingList, write_lists

from .test_cli import fails


def test_lists_go_to_other_toolkits_and_come_back(
    tmp_path: Path, collection: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    candidates = [
        Candidate(doc_id, relevance, bool(relevance), "bm25", rank, -float(rank), role)
        for rank, (doc_id, relevance, role) in enumerate((("bread-0", 1, "positive"), ("bread-1", 0, "negative")), 1)
    ]
    write_lists(tmp_path / "run" / "mine" / "train", [TrainingList("q-bread-0", tuple(candidates))])
    (tmp_path / "run" / "collection").symlink_to(collection.folder.resolve())
    file, folder = tmp_path / "lists.jsonl", tmp_path / "imported"
    assert main(["lists", "export", str(tmp_path / "run"), "--to", "bge", "--out", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: 1 rows of 1 lists, as bge\n"
    assert main(["lists", "import", str(file), "--from", "bge", "--out", str(folder)]) == 0
    assert capsys.readouterr().out.startswith(f"{folder}: 1 queries, 2 documents, 1 positives, 1 negatives\n")

    again = ("lists", "export", str(tmp_path / "run"), "--to", "bge", "--out", str(file))
    assert "is there already" in fails(capsys, *again)
    assert "no teacher scored" in fails(capsys, *again, "--scores")
    assert "no file" in fails(capsys, "lists", "import", str(tmp_path / "no"), "--from", "bge", "--out", str(folder))
    assert "1 fault" in fails(capsys, "lists", "import", str(file), "--from", "triplet", "--out", str(folder))
