"""The command that serves a bundle over HTTP."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .errors import UserError


def add_serve(commands: Any) -> None:
    """Add `serve` to the commands of a parser."""
    serve = commands.add_parser(
        "serve",
        help="a server for a bundle: its search, and its reranker behind the usual APIs",
        description="Serve a bundle over HTTP: /search, and the rerank APIs of Cohere, Jina, vLLM, TEI and Infinity. "
        "SIGTERM lets it answer what it has accepted, and end.",
    )
    serve.add_argument("bundle", metavar="BUNDLE", help="the folder that a run made, e.g. runs/demo/bundle")
    serve.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. port=8080 keys_file=keys.txt")
    serve.set_defaults(function=_serve)


def _serve(parsed: argparse.Namespace) -> None:
    from .config import ServerConfig
    from .configfile import check_section

    config = check_section(ServerConfig, parsed.overrides, "the settings of the server")
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"serving needs {error.name}: pip install 'secondstage[server]'") from None
    from secondstage.serve.server.run import serve

    serve(Path(parsed.bundle).expanduser(), config)
