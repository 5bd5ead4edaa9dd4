"""Ends connections while the server drains, so that no answer is lost with them."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .service import Service

# Seconds that the rest of a refused body is waited for.
PATIENCE = 1.0


class Closing:
    """While the server drains, every answer asks the client to use this connection no more."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        whole = False

        async def reading() -> Message:
            nonlocal whole
            message = await receive()
            whole = message["type"] == "http.disconnect" or not message.get("more_body", False)
            return message

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self.service.draining:
                # Closed with part of the request unread, a connection is reset, which may take the answer with it.
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(rest(), PATIENCE)
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        async def rest() -> None:
            while not whole:
                await reading()

        await self.app(scope, reading, closing)
