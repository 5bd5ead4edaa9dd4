"""The search of the bundle, and what people say of its results."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from ..options import SearchOptions
from .conventions import check_query, validated
from .errors import InvalidError
from .reception import Reception, Taken
from .refusing import OwnError
from .rerankroutes import refusals
from .service import Found, Service
from .signals import Judged
from .wire import JudgementBody, SearchBody


class FoundResult(BaseModel):
    """One document."""

    rank: int
    doc_id: str
    title: str
    text: str
    score: float
    reranker_score: float | None
    probability: float | None
    first_stage_rank: int
    first_stage_score: float
    retriever: str


class ContextPiece(BaseModel):
    """A part of the context."""

    doc_id: str
    text: str
    whole: bool


class Milliseconds(BaseModel):
    """What each stage took; `queue` is the part of `rerank` that was waiting."""

    first_stage: float
    rerank: float
    queue: float
    total: float


class FirstStageResult(BaseModel):
    """One document in the first stage's order."""

    rank: int
    doc_id: str
    title: str
    score: float


class SearchAnswer(BaseModel):
    """What a search found."""

    id: str
    answerable: bool
    confidence: float | None
    depth: int
    fell_back: bool
    results: list[FoundResult]
    context: list[ContextPiece] | None
    milliseconds: Milliseconds
    first_stage: list[FirstStageResult] | None = None


def search_routes(reception: Reception) -> APIRouter:
    """`/search` and `/judgements`."""
    router = APIRouter(tags=["search"])
    service = reception.service

    @router.post("/search", response_model=None, responses={200: {"model": SearchAnswer}, **refusals("own", OwnError)})
    async def search(request: Request) -> Response:
        """Search the bundle: retrieve, rerank, fuse."""

        async def handle(taken: Taken) -> Response:
            body = validated(SearchBody, taken.data)
            check_query(body.query, reception.config)
            check_depth(body, most_results(service), service.pipeline.deepest)
            options = SearchOptions(
                body.top_n, body.depth, body.min_score, body.latency_ms, body.where, body.pack_tokens
            )
            found = await service.search(body.query, options, request_id=taken.request_id, deadline=taken.deadline)
            return JSONResponse(_answer(found) | (_explained(found, reception, body.top_n) if body.explain else {}))

        return await reception.answer(request, "own", handle)

    missing: dict[int | str, dict[str, Any]] = {404: {"model": OwnError, "description": "NotFoundError"}}

    @router.post("/judgements", status_code=204, response_model=None, responses=refusals("own", OwnError) | missing)
    async def judge(request: Request) -> Response:
        """Keep a judgement of a result, or a click on it."""

        async def handle(taken: Taken) -> Response:
            body = validated(JudgementBody, taken.data)
            check_query(body.query, reception.config)
            judged = Judged(body.id, body.query, body.doc_id, body.relevance, body.kind)
            await service.judge(judged, deadline=taken.deadline)
            return Response(status_code=204)

        return await reception.answer(request, "own", handle)

    return router


def most_results(service: Service) -> int:
    """Candidates, and results, that a search may ask for: `max_documents`, and what it gets without asking."""
    unasked: int = SearchBody.model_fields["top_n"].default
    most: int = max(service.config.max_documents, unasked, *service.pipeline.depths)
    deepest = service.pipeline.deepest
    return most if deepest is None else min(most, max(unasked, deepest))


def check_depth(body: SearchBody, most: int, deepest: int | None) -> None:
    """`InvalidError` if a search asks for more candidates or results than are given."""
    raised = "raise max_documents"
    if most == deepest:
        raised = "make the bundle with a higher first_stage.depth (and serve it with as many max_documents)"
    for field, number in (("top_n", body.top_n), ("depth", body.depth or 0)):
        if number > most:
            raise InvalidError(f"{field}: is {number}, and may be {most}: ask for less, or {raised}", field)


def _answer(found: Found) -> dict[str, Any]:
    answer, spent = found.answer, found.answer.trace.milliseconds
    return {
        "id": found.request_id,
        "answerable": answer.answerable,
        "confidence": answer.confidence,
        "depth": answer.trace.depth,
        "fell_back": answer.trace.fell_back,
        "results": [result._asdict() for result in answer.results],
        "context": None if answer.context is None else [piece._asdict() for piece in answer.context],
        "milliseconds": {
            "first_stage": spent.get("first_stage", 0.0),
            "rerank": spent.get("rerank", 0.0),
            "queue": found.queue_ms,
            "total": found.total_ms,
        },
    }


def _explained(found: Found, reception: Reception, top_n: int) -> dict[str, Any]:
    documents, trace = reception.service.pipeline.documents, found.answer.trace
    listed = [
        {"rank": rank, "doc_id": doc_id, "title": documents.by_id(doc_id).title, "score": score}
        for rank, (doc_id, score) in enumerate(zip(trace.first[:top_n], trace.first_scores, strict=False), 1)
    ]
    return {"first_stage": listed}
