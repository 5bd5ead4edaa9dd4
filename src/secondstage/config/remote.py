"""What is reached over a network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Count, Positive, Section


class EndpointConfig(Section):
    """How an endpoint is asked: where it is, who asks, how often, how patiently."""

    url: str
    """With its path, e.g. https://api.openai.com/v1/chat/completions."""
    model: str = ""
    """Its name there; empty for servers that hold one model."""
    api_key_env: str | None = None
    """The environment variable that holds the key."""
    concurrency: Count = 4
    """Requests under way at a time."""
    timeout: Positive = 60.0
    """Seconds to connect, and for an answer: most servers send it in one piece, when it is complete."""
    retries: Annotated[int, Field(ge=0)] = 5
    """Of a request that the server was too busy or too broken to answer."""


class RemoteConfig(EndpointConfig):
    """A rerank API."""

    api: Literal["cohere", "jina", "tei"] = "cohere"
    """Whose shape it has. Cohere's is spoken by vLLM and Infinity, too."""
    documents_per_request: Count | None = None
    """At most; none means 100, and 32 for TEI."""
    document_words: Count | None = 2000
    """Of each document that are sent, for servers refuse what is too long; none sends all. In scripts without spaces,
    ten characters count as a word."""
