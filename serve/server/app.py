"""HTTP in front of a service."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from secondstage.config import ServerConfig

from .service import Service


class SearchBody(BaseModel):
    """What `/search` is sent."""

    query: str
    top_n: int = 10
    explain: bool = False


def make_app(service: Service, config: ServerConfig) -> FastAPI:
    """The application: `/search`, the rerank APIs, and what a deployment asks."""
    app = FastAPI(title="secondstage", docs_url=None, redoc_url=None)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Alive."""
        return {"status": "ok"}

    @app.post("/search")
    async def search(body: SearchBody) -> dict[str, Any]:
        found = await service.search(body.query, body.top_n)
        answer = found.answer
        return {
            "id": found.request_id,
            "answerable": answer.answerable,
            "confidence": answer.confidence,
            "depth": service.pipeline.depth,
            "results": [result._asdict() for result in answer.results],
            "context": None,
            "milliseconds": {"first_stage": 0.0, "rerank": 0.0, "queue": found.queue_ms, "total": found.total_ms},
        }

    return app
