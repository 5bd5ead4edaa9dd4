"""The rerank APIs: Cohere, Jina, vLLM, TEI, Infinity."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from . import answers, refusing
from .answers import Facts, relevance, render
from .conventions import Api, api_of, ask
from .reception import Reception, Taken

ANSWERS: dict[Api, Any] = {
    "cohere": answers.CohereAnswer | list[answers.TeiResult],
    "rerank": answers.RerankAnswer | list[answers.TeiResult],
    "score": answers.ScoreAnswer,
    "infinity": answers.InfinityAnswer,
}
ERRORS: dict[Api, Any] = {
    "cohere": refusing.CohereError | refusing.TeiError,
    "rerank": refusing.RerankError | refusing.TeiError,
    "score": refusing.OwnError,
    "infinity": refusing.InfinityError,
}
ABOUT: dict[Api, str] = {
    "cohere": "Cohere's API, version 2; with `texts` instead of `documents` TEI's.",
    "rerank": "The API of Jina, vLLM and Cohere (version 1), whose fields the answer has together; with `texts` "
    "instead of `documents` TEI's, answered by a bare array.",
    "score": "vLLM's API: one text with each of several, or two lists side by side; answered in their order.",
    "infinity": "Infinity's API.",
}
NAMES = "\n\nAny model's name is taken: one is served, and the answer names it. Unknown fields are ignored."


def rerank_routes(reception: Reception) -> APIRouter:
    """Every path of the rerank APIs."""
    router = APIRouter(tags=["rerank"])
    paths: list[tuple[str, Api]] = [
        ("/rerank", "rerank"),
        ("/v1/rerank", "rerank"),
        ("/v2/rerank", "cohere"),
        ("/score", "score"),
        ("/v1/score", "score"),
    ]
    if prefix := reception.config.prefix:
        paths.append((f"{prefix}/rerank", "infinity"))
    for path, api in paths:
        router.add_api_route(
            path,
            _endpoint(reception, api),
            methods=["POST"],
            name=path.strip("/").replace("/", "_"),
            description=ABOUT[api] + NAMES,
            response_model=None,
            responses={200: {"model": ANSWERS[api]}, **refusals(api, ERRORS[api])},
        )
    return router


def refusals(api: Api, model: Any) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: the statuses of an API's refusals."""
    statuses = set(refusing.statuses_of(api))
    if api in ("cohere", "rerank"):
        statuses |= set(refusing.statuses_of("tei"))
    return {status: {"model": model, "description": refusing.TYPES.get(status, "BackendError")} for status in statuses}


def _endpoint(reception: Reception, route: Api) -> Any:
    service, config = reception.service, reception.config

    async def endpoint(request: Request) -> Response:
        async def handle(taken: Taken) -> Response:
            asked = ask(api_of(route, taken.data), taken.data, config)
            logits = await service.rerank(asked, request_id=taken.request_id, deadline=taken.deadline)
            scale = "logit" if asked.raw else config.scores
            queries = [query for query, _ in asked.pairs]
            scores = relevance(logits.values, scale, service.pipeline.reranker, queries)
            facts = Facts(taken.request_id, int(time.time()), service.name, logits.tokens)
            return JSONResponse(render(asked, logits.values, scores, facts))

        return await reception.answer(request, route, handle, lambda data: api_of(route, data))

    return endpoint
