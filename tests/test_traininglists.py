"""Training lists of what people said."""

from __future__ import annotations

import numpy as np

from secondstage.lists import IGNORED, NEGATIVE, POSITIVE, Candidate
from secondstage.run import Ranking
from secondstage.serve.feedback.clicks import Preferred
from secondstage.serve.feedback.labels import Labels
from secondstage.serve.feedback.traininglists import training_list

RANKING = Ranking(tuple("abcdef"), np.arange(6, 0, -1, dtype=np.float32), ("bm25",) * 6)
LABELS = Labels("q", "text", {"b": 3, "f": 0, "x": 2}, Preferred(frozenset("cz"), frozenset("a"), frozenset("d")))


def test_every_candidate_has_the_role_that_there_is_evidence_for() -> None:
    found = training_list(LABELS, RANKING)
    assert found.query_id == "q"
    assert list(found.candidates) == [
        Candidate("a", 0, False, "bm25", 1, 6.0, NEGATIVE, "skipped"),
        Candidate("b", 3, True, "bm25", 2, 5.0, POSITIVE, "judged"),
        Candidate("c", 1, True, "bm25", 3, 4.0, POSITIVE, "clicked"),
        Candidate("d", 0, False, "bm25", 4, 3.0, IGNORED, "undecided"),
        Candidate("e", 0, False, "bm25", 5, 2.0, IGNORED, "unseen"),
        Candidate("f", 0, True, "bm25", 6, 1.0, NEGATIVE, "judged"),
        Candidate("x", 2, True, "qrels", 0, 0.0, POSITIVE, "judged"),
        Candidate("z", 1, True, "qrels", 0, 0.0, POSITIVE, "clicked"),
    ]


def test_without_a_first_stage_the_list_holds_what_was_said() -> None:
    found = training_list(LABELS, None)
    assert [(c.doc_id, c.role) for c in found.candidates] == [
        ("b", POSITIVE),
        ("f", NEGATIVE),
        ("x", POSITIVE),
        ("a", NEGATIVE),
        ("c", POSITIVE),
        ("z", POSITIVE),
    ]
