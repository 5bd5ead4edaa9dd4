"""The page at `/`, which shows a search before and after reranking, and the one at `/docs`, which shows the API.

Plain files without a build step. Everything comes from this server, and a strict policy sees to it: no script, style or
picture from elsewhere or in the markup, and no text that becomes markup.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter, Response

from secondstage.page import STYLE

POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; "
    "require-trusted-types-for 'script'"
)
# The address of a page holds a query: no other site is told.
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FOLDER = Path(__file__).parent


def _files() -> dict[str, Path]:
    own = {f"/{path.name}": path for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES}
    pages = {"/": own.pop("/index.html"), "/docs": own.pop("/docs.html")}
    return {**pages, "/house.css": STYLE, **own}


FILES = _files()
"""Each file by its address. None of them tells anything of a bundle, so none needs an API key."""


def page_router() -> APIRouter:
    """Routes to the pages and their files, which are read once."""
    router = APIRouter(include_in_schema=False)
    for address, path in FILES.items():
        router.add_api_route(address, _answering(path), methods=["GET", "HEAD"])
    return router


def _answering(path: Path) -> Callable[[], Awaitable[Response]]:
    content = path.read_bytes()

    async def answer() -> Response:
        return Response(content, headers=HEADERS, media_type=TYPES[path.suffix])

    return answer
