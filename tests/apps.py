"""The application that serves the tiny bundle, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from secondstage.config import ServerConfig
from secondstage.serve.server.app import make_app
from secondstage.serve.server.keys import Keys
from secondstage.serve.server.run import make_service


@contextmanager
def serving_bundle(bundle: Path, *keys: str, **settings: Any) -> Iterator[TestClient]:
    """A client of the application until the block ends."""
    service = make_service(bundle, ServerConfig(**settings))
    app = make_app(service, keys=Keys(list(keys)))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
