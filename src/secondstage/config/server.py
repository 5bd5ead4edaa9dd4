"""The HTTP server in front of a bundle."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from .base import Count, Positive, Section


class ServerConfig(Section):
    """What `secondstage serve BUNDLE key=value …` may say."""

    host: str = "127.0.0.1"
    """Where it listens; the loopback interface, unless told otherwise."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0 takes any free one, and says which."""
    keys_file: str | None = None
    """A file with one API key a line; none asks for no key."""
    cors: tuple[str, ...] = ()
    """Origins whose pages may ask; none means none but its own."""
    prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = ""
    """Where Infinity's API is: `{prefix}/rerank`, e.g. /infinity; empty means that `/rerank` is vLLM's and Jina's."""

    @field_validator("prefix")
    @classmethod
    def _check_prefix(cls, prefix: str) -> str:
        if prefix in ("/v1", "/v2"):
            raise ValueError(f"{prefix}/rerank is another API's: choose another prefix, e.g. /infinity")
        return prefix

    backend: Literal["auto", "torch", "onnx", "onnx-int8", "openvino", "openvino-int8"] | None = None
    """The engine that computes scores; none means as `serve.backend` of the bundle says."""
    model: str | None = None
    """The name that answers give the model, whatever name was asked for; none means that of the bundle."""
    scores: Literal["sigmoid", "probability", "logit"] = "sigmoid"
    """What `relevance_score` is: the sigmoid of the logit, which is the same for a pair in any list; the calibrated
    probability, where the reranker has one; the logit itself."""
    return_document: Literal["object", "string"] = "object"
    """How `/rerank` gives a document back: {"text": …} as Cohere, Jina and vLLM do, or the text alone as Infinity does.
    Below `prefix` it is always the text."""
    max_documents: Count = 1000
    """Of one request; a search may ask for as many candidates and results, and for those of its bundle."""
    max_searches: Count = 256
    """That are under way at once; above, they are refused with 429."""
    max_characters: Count = 100_000
    """Of one document; what a model reads ends far before. Longer ones are cut where the API cuts, else refused."""
    max_query_characters: Count = 10_000
    """Of a query; longer ones are refused."""
    max_body_mib: Positive = 16.0
    """Of a request; more is refused before it was read."""
    max_bodies_mib: Positive = 256.0
    """Of all requests without an answer yet; above, they are refused with 429."""
    queue_tokens: Annotated[int, Field(ge=1024)] = 1_048_576
    """That may wait to be scored; above, requests are refused with 429."""
    batch_tokens: Annotated[int, Field(ge=64)] | None = None
    """That are scored at once, padding included; none means as the bundle says."""
    batch_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 2.0
    """How long a request waits for company, where its tokens do not fill a batch."""
    deadline_ms: Positive | None = 60_000.0
    """After which a request is given up (504); its header X-Deadline-Ms may ask for less. None waits for ever."""
    drain_seconds: Positive = 60.0
    """After SIGTERM, for what was accepted."""
    judgements: str | None = None
    """A file to which the page's judgements are appended; none takes no judgement."""
    journal: str | None = None
    """A file to which a line for each search and rerank request is appended: times, ids, ranks, scores."""
    journal_queries: bool = False
    """Whether the journal has the texts of queries; without, it tells only which ones are the same."""
    journal_mib: Positive = 64.0
    """Of the journal; it then goes on in a new file, and the last five are kept."""
    drift_window: Annotated[int, Field(ge=100)] = 300
    """The last searches whose scores are compared with those of dev when the bundle was made."""
    shadow: str | None = None
    """A bundle, or the folder of a reranker, that scores the same candidates after each answer, and is compared."""

    @model_validator(mode="after")
    def _check_bodies(self) -> Self:
        if self.max_bodies_mib < self.max_body_mib:
            raise ValueError(
                f"max_bodies_mib is {self.max_bodies_mib:g}, must be at least max_body_mib, {self.max_body_mib:g}: "
                "one request alone would be refused"
            )
        return self
