"""How each API says no: the status, the words and their shape.

Statuses are those that an API documents; where it has none for a case, the usual one. `/rerank` and `/v1/rerank` are
spoken by Jina, vLLM and Cohere (v1): their errors have the words where each of the three looks for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from .conventions import Api
from .errors import InvalidError, OverloadedError, RefusalError, StoppingError, UnauthorizedError, UnavailableError

STATUSES = {
    "malformed": 400,
    "invalid": 400,
    "empty": 400,
    "unauthorized": 401,
    "missing": 404,
    "slow": 408,
    "too_many": 413,
    "too_large": 413,
    "unsupported": 415,
    "overloaded": 429,
    "gone": 499,
    "broken": 500,
    "stopping": 503,
    "unavailable": 503,
    "expired": 504,
}
OWN_STATUSES: Mapping[Api, Mapping[str, int]] = {
    "cohere": {"too_many": 400},
    "tei": {"invalid": 422, "broken": 424},
    "infinity": {"malformed": 422, "invalid": 422, "empty": 422, "too_many": 422},
}
# As OpenAI's API has them, which vLLM and Infinity follow.
TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    408: "RequestTimeoutError",
    413: "BadRequestError",
    415: "BadRequestError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
    504: "GatewayTimeoutError",
}
TEI_TYPES = {
    400: "Validation",
    413: "Validation",
    422: "Validation",
    424: "Backend",
    429: "Overloaded",
    500: "Backend",
    503: "Unhealthy",
    504: "Backend",
}


class Fault(BaseModel):
    """As vLLM and Infinity tell it."""

    message: str
    type: str
    param: str | None
    code: int


class OwnError(BaseModel):
    """What went wrong."""

    error: Fault


class CohereError(BaseModel):
    """What went wrong, as Cohere tells it."""

    id: str
    message: str


class RerankError(BaseModel):
    """What went wrong: `error` for clients of vLLM, `detail` for those of Jina, `message` for those of Cohere."""

    error: Fault
    detail: str
    message: str


class TeiError(BaseModel):
    """What went wrong, as TEI tells it."""

    error: str
    error_type: str


class Detail(BaseModel):
    """As FastAPI tells it."""

    loc: list[str]
    msg: str
    type: str


class InfinityError(BaseModel):
    """What went wrong, as Infinity tells it: `detail` of a body that breaks a rule, else `error`."""

    error: Fault
    detail: list[Detail] | None = None


class Refused(NamedTuple):
    """The answer to a request that gets none."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


def status_of(api: Api, kind: str) -> int:
    """With which an API refuses."""
    return OWN_STATUSES.get(api, {}).get(kind, STATUSES[kind])


def statuses_of(api: Api) -> list[int]:
    """All with which an API may refuse, but that of a client that is gone."""
    return sorted({status_of(api, kind) for kind in STATUSES} - {STATUSES["gone"], STATUSES["missing"]})


def refuse(api: Api, error: RefusalError, request_id: str) -> Refused:
    """Say no in the words of an API."""
    status = status_of(api, error.kind)
    headers: dict[str, str] = {}
    if isinstance(error, OverloadedError):
        headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, StoppingError | UnavailableError):
        headers["Retry-After"] = "1"
    return Refused(status, _body(api, error, status, request_id), headers)


def _body(api: Api, error: RefusalError, status: int, request_id: str) -> dict[str, Any]:
    words = str(error)
    field = error.field if isinstance(error, InvalidError) else ""
    fault = {"message": words, "type": TYPES.get(status, "Error"), "param": field or None, "code": status}
    if api == "tei":
        if error.kind == "empty":
            return {"error": f"`{field}` cannot be empty", "error_type": "Empty"}
        return {"error": words, "error_type": TEI_TYPES.get(status, "Validation")}
    if api == "cohere":
        return {"id": request_id, "message": _cohere_words(error, field, words)}
    if api == "rerank":
        return {"error": fault, "detail": words, "message": words}
    if api == "infinity" and status == 422:
        place = ["body", *([field] if field else [])]
        return {"error": fault, "detail": [{"loc": place, "msg": words, "type": error.kind}]}
    return {"error": fault}


def _cohere_words(error: RefusalError, field: str, words: str) -> str:
    if error.kind == "empty" and field == "documents":
        return "invalid request: list of documents must not be empty"
    if error.kind == "unauthorized":
        return f"invalid api token: {words}"
    if error.kind in ("invalid", "empty", "too_many"):
        return f"invalid request: {words.replace(': must', ' must', 1)}"
    return words
