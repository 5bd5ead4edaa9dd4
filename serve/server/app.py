"""HTTP in front of a service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from secondstage.config import ServerConfig
from secondstage.version import __version__

from .closing import Closing
from .keys import Keys, read_keys
from .openapi import document
from .page import page_router
from .reception import DEADLINE, REQUEST_ID, Reception
from .refusing import TYPES
from .rerankroutes import rerank_routes
from .searchroutes import most_results, search_routes
from .service import Service
from .statusroutes import status_routes

DESCRIPTION = (
    "Two-stage search of one bundle, and its reranker behind the APIs of Cohere, Jina, vLLM, TEI and Infinity."
)


def make_app(service: Service, config: ServerConfig | None = None, keys: Keys | None = None) -> FastAPI:
    """The application: `/search`, the rerank APIs, the page, and what a deployment asks.

    Args:
        service: answers.
        config: by default the service's.
        keys: who may ask; by default as the config's file says.

    Raises:
        UserError: the file of keys cannot be read.
    """
    config = config or service.config
    keys = read_keys(config.keys_file) if keys is None else keys

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.drain()
        service.close()

    app = FastAPI(
        title="secondstage",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    reception = Reception(service, config, keys)
    for router in (search_routes(reception), rerank_routes(reception), status_routes(reception), page_router()):
        app.include_router(router)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _any_error)
    app.add_middleware(Closing, service=service)
    if config.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", DEADLINE],
            expose_headers=["Retry-After", REQUEST_ID],
        )
    most, fields = most_results(service), service.pipeline.fields.names
    describe = cache(lambda: document(app, config, keys=bool(keys), most_results=most, fields=fields))
    app.openapi = describe  # type: ignore[method-assign]
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    """A path that is not there, or a method that a path has not."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = str(error.detail) if isinstance(error, HTTPException) else "the server failed on this request"
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse(_fault(words, status), status, headers)


async def _any_error(request: Request, error: Exception) -> Response:
    """What nobody expected: the log has it, the client does not."""
    return JSONResponse(_fault("the server failed on this request", 500), 500)


def _fault(words: str, status: int) -> dict[str, Any]:
    return {"error": {"message": words, "type": TYPES.get(status, "Error"), "param": None, "code": status}}
