"""The two-stage pipeline: retrieve, rerank, fuse. It knows nothing of HTTP."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from secondstage import firststage
from secondstage.answerability import Answerability
from secondstage.backends import open_engine
from secondstage.backends.record import ENGINES_FOLDER
from secondstage.collection import Documents
from secondstage.config import ServeConfig
from secondstage.errors import UserError
from secondstage.files import read_json, read_manifest
from secondstage.firststage import FirstStage, search_run
from secondstage.pairmodel import PairModel
from secondstage.run import Run, Scores
from secondstage.scoring import Scorer, rerank

from .fuse import fuse
from .verdict import Verdict, read_verdict

KIND = "bundle"


class Result(NamedTuple):
    """One document that a search found.

    Attributes:
        rank: from 1.
        doc_id: the document.
        title: its title, which may be empty.
        text: its text.
        score: the fused score, comparable only within one result list.
        reranker_score: the reranker's logit.
        first_stage_rank: its rank before reranking, from 1.
        first_stage_score: its score before reranking.
        retriever: who found it.
        probability: that it is relevant; none where the reranker was never calibrated.
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
    probability: float | None = None


class Answer(NamedTuple):
    """What a search found.

    Attributes:
        results: best first.
        confidence: the probability that the candidates hold a relevant document; none where nothing was fitted.
        answerable: whether it reaches the threshold that was chosen on dev.
    """

    results: list[Result]
    confidence: float | None
    answerable: bool


class Runs(NamedTuple):
    """The same candidates in three orders."""

    first_stage: Run
    reranked: Run
    pipeline: Run


class Pipeline:
    """First stage, reranker and fusion, opened from a bundle.

    Attributes:
        depth: candidates that are reranked.
        weight: the reranker's share in the final score.
        answerability: tells whether a list holds a relevant document at all; none where it was never fitted.
        verdict: what the gate said of the bundle; none where it was never evaluated.
        fallback: whether to answer in the first stage's order unless the gate let the pipeline through.
    """

    def __init__(
        self,
        first_stage: FirstStage,
        reranker: PairModel,
        documents: Documents,
        *,
        depth: int,
        weight: float,
        answerability: Answerability | None = None,
        verdict: Verdict | None = None,
        fallback: bool = False,
    ) -> None:
        self.first_stage = first_stage
        self.reranker = reranker
        self.documents = documents
        self.depth = depth
        self.weight = weight
        self.answerability = answerability
        self.verdict = verdict
        self.fallback = fallback
        self.scorer: Scorer = reranker

    @classmethod
    def load(cls, folder: str | Path, backend: str | None = None, *, fallback: bool | None = None) -> Pipeline:
        """Open a bundle, anywhere, without a network.

        Args:
            folder: the bundle.
            backend: the engine that computes scores, one of `backends.ENGINES`; by default as `serve.backend` said
                when it was made.
            fallback: answer in the first stage's order unless the gate let the bundle through; by default as
                `serve.fallback` said when it was made.

        Raises:
            UserError: the folder is no bundle, is incomplete, was changed, or has another format.
        """
        folder = Path(folder)
        manifest = read_manifest(folder, KIND, verify=True)
        settings = read_json(folder / "pipeline.json")
        config = ServeConfig.model_validate(settings["serve"])
        answerability = settings.get("answerability")
        return cls(
            firststage.load(folder / "first_stage"),
            open_engine(
                folder / "reranker",
                folder / ENGINES_FOLDER,
                backend or config.backend,
                batch_tokens=config.batch_tokens,
                precision=config.precision,
            ),
            Documents(folder / "documents.arrow"),
            depth=settings["depth"],
            weight=settings["weight"],
            answerability=None if answerability is None else Answerability.from_json(answerability),
            verdict=read_verdict(folder, manifest["fingerprint"]),
            fallback=config.fallback if fallback is None else fallback,
        )

    def with_scorer(self, scorer: Scorer) -> Pipeline:
        """The same pipeline, its candidates scored by something else: a cache of scores, a copy of the model."""
        other = copy.copy(self)
        other.scorer = scorer
        return other

    @property
    def falls_back(self) -> bool:
        """Whether answers are in the first stage's order: it was told so, and the gate did not let it through."""
        return self.fallback and (self.verdict is None or not self.verdict.passed)

    @property
    def refused(self) -> bool:
        """Whether the gate said no."""
        return self.verdict is not None and not self.verdict.passed

    def search(self, query: str, top_n: int = 10) -> list[Result]:
        """The best `top_n` documents for a query, best first; at most `depth`, fewer where fewer match.

        Raises:
            UserError: the query is empty, `top_n` is less than 1, or the first stage is a run without this query.
        """
        return self.answer(query, top_n).results

    def answer(self, query: str, top_n: int = 10) -> Answer:
        """What `search` finds, and the probability that the candidates hold a relevant document at all."""
        if not query.strip():
            raise UserError("the query is empty: give at least one word")
        if top_n < 1:
            raise UserError(f"top_n is {top_n}, must be at least 1")
        firststage.check_query(self.first_stage, query)
        first, reranked, fused = (run["query"] for run in self.rank({"query": query}))
        if self.falls_back:
            fused = first
        first_ranks = {doc_id: i for i, doc_id in enumerate(first.doc_ids)}
        second_scores = dict(zip(reranked.doc_ids, reranked.scores.tolist(), strict=True))
        probabilities = dict(zip(reranked.doc_ids, self.reranker.probabilities(reranked.scores), strict=True))
        results = []
        for i, (doc_id, score, retriever) in enumerate(zip(*fused.cut(top_n), strict=True), 1):
            document = self.documents.by_id(doc_id)
            results.append(
                Result(
                    rank=i,
                    doc_id=doc_id,
                    title=document.title,
                    text=document.text,
                    score=float(score),
                    reranker_score=second_scores[doc_id],
                    first_stage_rank=first_ranks[doc_id] + 1,
                    first_stage_score=float(first.scores[first_ranks[doc_id]]),
                    retriever=retriever,
                    probability=probabilities[doc_id],
                )
            )
        both = np.stack([reranked.scores_of(first.doc_ids), first.scores])
        return Answer(results, *self._answerable(both))

    def rank(self, queries: Mapping[str, str], *, depth: int | None = None, label: str | None = None) -> Runs:
        """Search many queries (text by id): the candidates of each in first-stage, reranked and fused order.

        `depth` stands in for the pipeline's own.
        """
        first = search_run(self.first_stage, self.documents.ids, queries, depth or self.depth)
        return self.rerank(first, queries, label=label)

    def rerank(self, first: Run, queries: Mapping[str, str], *, label: str | None = None) -> Runs:
        """Rerank and fuse lists that the first stage made."""
        reranked = rerank(self.scorer, first, queries, self.documents, label=label)
        return Runs(first, reranked, fuse(first, reranked, self.weight))

    def _answerable(self, scores: Scores) -> tuple[float | None, bool]:
        if self.answerability is None:
            return None, True
        return self.answerability.confidence(scores), self.answerability.answerable(scores)
