"""The two-stage pipeline: retrieve, rerank, fuse. It knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from secondstage import firststage
from secondstage.collection import Documents
from secondstage.config import ServeConfig
from secondstage.errors import UserError
from secondstage.files import read_json, read_manifest
from secondstage.firststage import FirstStage, search_run
from secondstage.reranker import Reranker
from secondstage.run import Run

from .fuse import fuse

KIND = "bundle"


class Result(NamedTuple):
    """One document that a search found.

    Attributes:
        rank: from 1.
        doc_id: the document.
        title: its title, which may be empty.
        text: its text.
        score: the fused score, comparable only within one result list.
        reranker_score: the cross-encoder's logit.
        first_stage_rank: its rank before reranking, from 1.
        first_stage_score: its score before reranking.
        retriever: who found it.
    """

    rank: int
    doc_id: str
    title: str
    text: str
    score: float
    reranker_score: float
    first_stage_rank: int
    first_stage_score: float
    retriever: str


class Runs(NamedTuple):
    """The same candidates in three orders."""

    first_stage: Run
    reranked: Run
    pipeline: Run


class Pipeline:
    """First stage, reranker and fusion, opened from a bundle."""

    def __init__(
        self, first_stage: FirstStage, reranker: Reranker, documents: Documents, *, depth: int, weight: float
    ) -> None:
        self.first_stage = first_stage
        self.reranker = reranker
        self.documents = documents
        self.depth = depth
        self.weight = weight

    @classmethod
    def load(cls, folder: str | Path) -> Pipeline:
        """Open a bundle, anywhere, without a network.

        Raises:
            UserError: the folder is no bundle, is incomplete, was changed, or has another format.
        """
        folder = Path(folder)
        read_manifest(folder, KIND, verify=True)
        settings = read_json(folder / "pipeline.json")
        config = ServeConfig.model_validate(settings["serve"])
        return cls(
            firststage.load(folder / "first_stage"),
            Reranker.load(folder / "reranker", batch_tokens=config.batch_tokens, precision=config.precision),
            Documents(folder / "documents.arrow"),
            depth=config.depth,
            weight=settings["weight"],
        )

    def search(self, query: str, top_n: int = 10) -> list[Result]:
        """The best `top_n` documents for a query, best first; at most `depth`, fewer where fewer match.

        Raises:
            UserError: the query is empty, or `top_n` is less than 1.
        """
        if not query.strip():
            raise UserError("the query is empty: give at least one word")
        if top_n < 1:
            raise UserError(f"top_n is {top_n}, must be at least 1")
        runs = self.rank({"query": query})
        first, reranked, fused = (run["query"] for run in runs)
        first_ranks = {doc_id: i for i, doc_id in enumerate(first.doc_ids)}
        second_scores = dict(zip(reranked.doc_ids, reranked.scores, strict=True))
        return [
            Result(
                rank=i,
                doc_id=doc_id,
                title=self.documents.by_id(doc_id).title,
                text=self.documents.by_id(doc_id).text,
                score=float(score),
                reranker_score=float(second_scores[doc_id]),
                first_stage_rank=first_ranks[doc_id] + 1,
                first_stage_score=float(first.scores[first_ranks[doc_id]]),
                retriever=retriever,
            )
            for i, (doc_id, score, retriever) in enumerate(zip(*fused, strict=True), 1)
            if i <= top_n
        ]

    def rank(self, queries: Mapping[str, str], *, label: str | None = None) -> Runs:
        """Search many queries (text by id): the candidates of each in first-stage, reranked and fused order."""
        first = search_run(self.first_stage, self.documents.ids, queries, self.depth)
        return self.rerank(first, queries, label=label)

    def rerank(self, first: Run, queries: Mapping[str, str], *, label: str | None = None) -> Runs:
        """Rerank and fuse lists that the first stage made."""
        reranked = self.reranker.rerank(first, queries, self.documents, label=label)
        return Runs(first, reranked, fuse(first, reranked, self.weight))
