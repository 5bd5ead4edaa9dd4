"""What a warm-up learnt from."""

from __future__ import annotations

from pathlib import Path

from secondstage.lists import NEGATIVE, POSITIVE, Candidate, TrainingList, write_lists
from secondstage.synthetic import SYNTHETIC, TITLE, SyntheticQuery, write_synthetic


def learnt_title(folder: Path, title: str) -> Path:
    """The folder of its lists: one, of a document with that title."""
    roles = [("bread-0", POSITIVE), ("river-0", NEGATIVE)]
    candidates = tuple(Candidate(doc_id, 0, False, "bm25", 1, 0.5, role) for doc_id, role in roles)
    write_lists(folder / "train", [TrainingList("synthetic-1", candidates)])
    write_synthetic(folder / SYNTHETIC, [SyntheticQuery("synthetic-1", title, "bread-0", TITLE, "title")])
    return folder
