"""What a ranking and the judgements say of each candidate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from secondstage.lists import NEGATIVE, POSITIVE, Candidate
from secondstage.mine.candidates import label
from secondstage.run import Ranking


def ranking(*found: tuple[str, float, str]) -> Ranking:
    doc_ids, scores, retrievers = zip(*found, strict=True) if found else ((), (), ())
    return Ranking(doc_ids, np.array(scores, np.float32), retrievers)


FOUND = ranking(("a", 3.5, "bm25"), ("b", 2.0, "bm25+dense"), ("c", -1.25, "dense"))


def test_every_document_is_labelled_in_order_and_the_missed_positives_follow() -> None:
    assert label(FOUND, {"x": 1, "b": 2, "c": 0, "y": 0, "z": 3}) == [
        Candidate("a", relevance=0, judged=False, retriever="bm25", rank=1, score=3.5, role=NEGATIVE),
        Candidate("b", relevance=2, judged=True, retriever="bm25+dense", rank=2, score=2.0, role=POSITIVE),
        Candidate("c", relevance=0, judged=True, retriever="dense", rank=3, score=-1.25, role=NEGATIVE),
        Candidate("x", relevance=1, judged=True, retriever="qrels", rank=0, score=0.0, role=POSITIVE),
        Candidate("z", relevance=3, judged=True, retriever="qrels", rank=0, score=0.0, role=POSITIVE),
    ]


@pytest.mark.parametrize(
    ("found", "judged", "roles"),
    [
        (FOUND, {}, "nnn"),
        (FOUND, {"a": 1, "b": 1, "c": 1}, "ppp"),
        (FOUND, {"a": 0, "b": 0}, "nnn"),
        (FOUND, {"missed": 0}, "nnn"),
        (FOUND, {"missed": 1}, "nnnp"),
        (ranking(), {"missed": 1, "judged": 0}, "p"),
        (ranking(), {}, ""),
    ],
)
def test_roles(found: Ranking, judged: Mapping[str, int], roles: str) -> None:
    assert "".join(candidate.role[0] for candidate in label(found, judged)) == roles


def test_scores_are_plain_numbers() -> None:
    assert [type(candidate.score) for candidate in label(FOUND, {"x": 1})] == [float] * 4
