"""A small server with the page in front of it: it reranks by turning lists round, and does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

DEPTH = 12
HOSTILE = '<img src=x onerror="window.hacked = 1"> & <b>bold</b>'
TITLES = {"d1": HOSTILE, "d2": "", "d3": "Café au lait, crème brûlée"}


def documents() -> list[dict[str, Any]]:
    """Twelve, in the order of the first stage."""
    found = []
    for i in range(1, DEPTH + 1):
        title = TITLES.get(f"d{i}", f"Document {i}")
        text = (
            f"This is the text of number {i}. "
            + "It goes on and on. " * 40
            + "<script>window.hacked = 2</script> The end."
        )
        found.append({"doc_id": f"d{i}", "title": title, "text": text})
    return found


def answer(body: Mapping[str, Any]) -> dict[str, Any]:
    """The first `depth` documents turned round, the others after them."""
    depth = body.get("depth") or DEPTH
    first = [{**document, "rank": i, "score": 10.0 - i} for i, document in enumerate(documents(), 1)]
    results = [
        {
            **{name: document[name] for name in ("doc_id", "title", "text")},
            "rank": i,
            "score": 1 / i,
            "reranker_score": 5.0 - i if i <= depth else None,
            "probability": 0.9 / i if i <= depth else None,
            "first_stage_rank": document["rank"],
            "first_stage_score": document["score"],
            "retriever": "bm25",
        }
        for i, document in enumerate([*reversed(first[:depth]), *first[depth:]], 1)
    ]
    top = body["top_n"]
    return {
        "id": "search-1",
        "answerable": True,
        "confidence": 0.87,
        "depth": depth,
        "results": results[:top],
        "first_stage": [{name: one[name] for name in ("doc_id", "title", "score", "rank")} for one in first[:top]],
        "context": None,
        "milliseconds": {"first_stage": 2.0, "queue": 1.0, "rerank": 37.0, "total": 40.0},
    }


class PageServer:
    """What the page is given.

    Attributes:
        asked: the bodies of searches.
        judged: the bodies of judgements.
        key: that requests must have; none asks for none.
        changes: to every answer of a search.
        refusal: status, body and headers in place of an answer.
        seconds: that a search takes.
        judging: whether judgements are kept, as it says of itself.
    """

    def __init__(self) -> None:
        self.app = FastAPI(title="secondstage", version="1", docs_url=None, redoc_url=None)
        self.reset()
        self.app.get("/info")(self.info)
        self.app.post("/search")(self.search)
        self.app.post("/judgements")(self.judge)

    def reset(self) -> None:
        """As new."""
        self.asked: list[dict[str, Any]] = []
        self.judged: list[dict[str, Any]] = []
        self.key: str | None = None
        self.changes: dict[str, Any] = {}
        self.refusal: tuple[int, object, dict[str, str]] | None = None
        self.seconds = 0.0
        self.judging = True

    async def info(self, request: Request) -> Response:
        """A bundle of depth 12."""
        info = {"name": "small", "backend": "turner", "documents": DEPTH, "depth": DEPTH, "judgements": self.judging}
        return self._refused(request, refusals=False) or JSONResponse(info)

    async def search(self, request: Request) -> Response:
        """Answers, or refuses."""
        body = await request.json()
        refused = self._refused(request)
        if refused:
            return refused
        self.asked.append(body)
        await asyncio.sleep(self.seconds)
        return JSONResponse({**answer(body), **self.changes})

    async def judge(self, request: Request) -> Response:
        """Keeps, or refuses."""
        refused = self._refused(request)
        if refused:
            return refused
        self.judged.append(await request.json())
        return Response(status_code=204)

    def _refused(self, request: Request, *, refusals: bool = True) -> Response | None:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": {"message": "no API key, or an unknown one"}}, 401)
        if self.refusal and refusals:
            status, body, headers = self.refusal
            return JSONResponse(body, status, headers)
        return None
