"""What a search returns."""

from __future__ import annotations

from typing import NamedTuple

from .trace import Trace


class Result(NamedTuple):
    """One document that a search found.

    Attributes:
        rank: from 1.
        doc_id: the document.
        title: its title, which may be empty.
        text: its text.
        score: the fused score, comparable only within one result list.
        reranker_score: the last reranker's logit; none of a document that it did not read.
        first_stage_rank: its rank before reranking, from 1.
        first_stage_score: its score before reranking.
        retriever: who found it.
        probability: that it is relevant; none where the reranker was never calibrated, or did not read it.
    """

    rank: int
    doc_id: str
    title: str
    text: str
    score: float
    reranker_score: float | None
    first_stage_rank: int
    first_stage_score: float
    retriever: str
    probability: float | None = None


class Piece(NamedTuple):
    """A part of the context that is made of the results.

    Attributes:
        doc_id: the document.
        text: its title and text, or their beginning.
        whole: whether nothing was cut.
    """

    doc_id: str
    text: str
    whole: bool = True


class Answer(NamedTuple):
    """What a search found.

    Attributes:
        results: best first.
        confidence: the probability that the candidates hold a relevant document; none where nothing was fitted, or
            where the last reranker read none of them.
        answerable: whether it reaches the threshold that was chosen on dev; true where there is no confidence.
        trace: how it came about.
        context: the results packed into so many tokens; none where none were asked for.
    """

    results: list[Result]
    confidence: float | None
    answerable: bool
    trace: Trace
    context: list[Piece] | None = None
