"""What a deployment asks: alive, ready, what is served, metrics."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from secondstage.version import __version__

from .errors import UnauthorizedError
from .reception import Reception
from .refusing import OwnError, refuse
from .service import new_id

PLAIN = {"text/plain": {"schema": {"type": "string"}}}


class Status(BaseModel):
    """Of a probe."""

    status: Literal["ok", "ready", "stopping"]


class Limits(BaseModel):
    """What a request may hold."""

    max_documents: int
    max_characters: int
    max_query_characters: int
    max_body_mib: float
    queue_tokens: int
    deadline_ms: float | None


class VerdictAnswer(BaseModel):
    """What the gate said of the bundle."""

    passed: bool
    sentence: str


class Info(BaseModel):
    """What is served."""

    name: str
    bundle: str
    version: str
    documents: int
    depth: int
    weight: float
    cascade: list[int]
    backend: str
    max_length: int
    batch_tokens: int
    scores: str
    calibrated: bool
    fallback: bool
    verdict: VerdictAnswer | None
    limits: Limits
    judgements: bool


def status_routes(reception: Reception) -> APIRouter:
    """Everything that is asked by GET, but for the page."""
    router, service = APIRouter(tags=["status"]), reception.service
    unauthorized: dict[int | str, dict[str, Any]] = (
        {401: {"model": OwnError, "description": "AuthenticationError"}} if reception.keys else {}
    )

    @router.get("/health", response_model=Status)
    async def health() -> Response:
        """Whether the process lives; it does until its end."""
        return JSONResponse({"status": "ok"})

    @router.get("/ready", response_model=Status, responses={503: {"model": Status, "description": "It is stopping."}})
    async def ready() -> Response:
        """Whether requests are accepted: the bundle is loaded, and nobody asked the server to stop."""
        if service.draining:
            return JSONResponse({"status": "stopping"}, 503)
        return JSONResponse({"status": "ready"})

    @router.get("/info", response_model=Info, responses=unauthorized)
    async def info(request: Request) -> Response:
        """What is served, and its limits."""
        return _refused(reception, request) or JSONResponse(_info(reception))

    @router.get("/metrics", response_class=Response, responses={200: {"content": PLAIN}, **unauthorized})
    async def metrics(request: Request) -> Response:
        """Metrics for Prometheus."""
        if refused := _refused(reception, request):
            return refused
        content, media = service.metrics()
        return Response(content, media_type=media)

    return router


def _refused(reception: Reception, request: Request) -> Response | None:
    try:
        reception.keys.check(request.headers.get("authorization"))
    except UnauthorizedError as error:
        refused = refuse("own", error, new_id())
        return JSONResponse(refused.body, refused.status, refused.headers)
    return None


def _info(reception: Reception) -> dict[str, Any]:
    service, config = reception.service, reception.config
    pipeline, last = service.pipeline, service.batchers[-1]
    return {
        "name": service.name,
        "bundle": service.bundle,
        "version": __version__,
        "documents": len(pipeline.documents),
        "depth": pipeline.depth,
        "weight": pipeline.weight,
        "cascade": [stage.depth for stage in pipeline.cascade],
        "backend": pipeline.reranker.engine,
        "max_length": pipeline.reranker.max_length,
        "batch_tokens": last.engine.batch_tokens,
        "scores": config.scores,
        "calibrated": pipeline.reranker.calibration is not None,
        "fallback": pipeline.falls_back,
        "verdict": pipeline.verdict._asdict() if pipeline.verdict else None,
        "limits": {name: getattr(config, name) for name in Limits.model_fields},
        "judgements": service.keeps_judgements,
    }
