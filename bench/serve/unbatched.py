"""A server that batches nothing across requests: `python -m bench.serve.unbatched COPIES BUNDLE [key=value …]`.

The same application, but each request is scored alone and whole, as it comes: one after another where there is one copy
of the model; side by side in as many threads as there are copies, as a server does that calls its model in the handler.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from secondstage.config import ServerConfig
from secondstage.configfile import check_section
from secondstage.pairmodel import PairModel
from secondstage.serve import Pipeline
from secondstage.serve.server.app import make_app
from secondstage.serve.server.batcher import Scored
from secondstage.serve.server.engine import Limits
from secondstage.serve.server.run import listen
from secondstage.serve.server.service import Service


class Unbatched:
    """Stands in for the batcher of a service."""

    tokens = 0

    def __init__(self, models: Sequence[PairModel]) -> None:
        self.engine = models[0]  # which `/info` asks
        self._free: asyncio.Queue[PairModel] = asyncio.Queue()
        for model in models:
            self._free.put_nowait(model)

    async def score(
        self, pairs: Sequence[tuple[str, str]], *, deadline: float | None = None, limits: Limits | None = None
    ) -> Scored:
        """Score pairs in a thread, when a copy of the model is free."""
        arrived = time.monotonic()
        model = await self._free.get()
        try:
            waited = 1000 * (time.monotonic() - arrived)
            return Scored(await asyncio.to_thread(model.score, pairs), 0, waited)
        finally:
            self._free.put_nowait(model)

    async def drain(self) -> None:
        """Nothing waits here."""


def main() -> None:
    """Serve until SIGTERM."""
    copies, bundle, *settings = sys.argv[1:]
    config = check_section(ServerConfig, settings, "the settings of the server")
    listener = listen(config.host, config.port)
    opened = [Pipeline.load(Path(bundle), config.backend) for _ in range(int(copies))]
    service = Service(opened[0], config)
    service.batchers = (Unbatched([pipeline.reranker for pipeline in opened]),)  # type: ignore[assignment]
    app = make_app(service, config)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run([listener])


if __name__ == "__main__":
    main()
