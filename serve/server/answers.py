"""What each API answers: `render` makes it, and the models describe it for the OpenAPI document."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel

from secondstage.calibration import sigmoid
from secondstage.pairmodel import PairModel
from secondstage.run import Scores

from .conventions import Asked

Scale = Literal["sigmoid", "probability", "logit"]
# Cohere's unit: a query with so many documents, at most.
SEARCH_UNIT = 100


class Usage(BaseModel):
    """Tokens of all pairs as the model read them, without padding."""

    prompt_tokens: int
    total_tokens: int


class ApiVersion(BaseModel):
    """Of Cohere's API."""

    version: str
    is_experimental: bool


class BilledUnits(BaseModel):
    """Nothing is billed; clients count them."""

    search_units: int


class Meta(BaseModel):
    """As Cohere has it."""

    api_version: ApiVersion
    billed_units: BilledUnits


class CohereResult(BaseModel):
    """One document."""

    index: int
    relevance_score: float


class CohereAnswer(BaseModel):
    """Of `/v2/rerank`."""

    id: str
    results: list[CohereResult]
    meta: Meta


class RerankResult(BaseModel):
    """One document; with its text, if it was asked for."""

    index: int
    relevance_score: float
    document: dict[str, str] | str | None = None


class RerankAnswer(BaseModel):
    """Of `/v1/rerank` and `/rerank`: the fields of Jina, vLLM and Cohere (v1)."""

    id: str
    object: Literal["rerank"]
    created: int
    model: str
    usage: Usage
    results: list[RerankResult]
    meta: Meta


class InfinityResult(BaseModel):
    """One document."""

    index: int
    relevance_score: float
    document: str | None = None


class InfinityAnswer(BaseModel):
    """Of `{prefix}/rerank`."""

    object: Literal["rerank"]
    id: str
    created: int
    model: str
    usage: Usage
    results: list[InfinityResult]


class TeiResult(BaseModel):
    """One text."""

    index: int
    score: float
    text: str | None = None


class ScoreData(BaseModel):
    """One pair."""

    index: int
    object: Literal["score"]
    score: float


class ScoreAnswer(BaseModel):
    """Of `/score`."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[ScoreData]
    usage: Usage


class Facts(NamedTuple):
    """What an answer tells besides scores.

    Attributes:
        request_id: of the answer.
        created: seconds since 1970.
        model: the name of what is served.
        tokens: of all pairs.
    """

    request_id: str
    created: int
    model: str
    tokens: int


def relevance(logits: Scores, scale: Scale, model: PairModel, queries: Sequence[str]) -> list[float]:
    """What `relevance_score` is, in double precision: `[n]` of the logits of pairs with these queries.

    A probability that the reranker cannot give, as it was never calibrated, is the sigmoid.
    """
    if scale == "logit":
        return [float(logit) for logit in logits.tolist()]
    if scale == "probability" and model.calibration is not None:
        return [float(p) for p in model.calibration.of_lists(logits, queries)]
    return [float(p) for p in sigmoid(logits)]


def render(asked: Asked, logits: Scores, scores: Sequence[float], facts: Facts) -> Any:
    """The body of an answer.

    Args:
        asked: the request.
        logits: `[n]`, which decide on the order: scores may tie where they do not.
        scores: `[n]` that are told.
        facts: the rest.
    """
    usage = {"prompt_tokens": facts.tokens, "total_tokens": facts.tokens}
    head = {"id": facts.request_id, "created": facts.created, "model": facts.model}
    if asked.api == "score":
        data = [{"index": i, "object": "score", "score": score} for i, score in enumerate(scores)]
        return {**head, "object": "list", "data": data, "usage": usage}
    order = np.argsort(-logits, kind="stable").tolist()[: asked.top_n]
    names = ("score", "text") if asked.api == "tei" else ("relevance_score", "document")
    results = [
        {"index": i, names[0]: scores[i]} | ({names[1]: asked.returned[i]} if asked.returned is not None else {})
        for i in order
    ]
    if asked.api == "tei":
        return results
    if asked.api == "cohere":
        return {"id": facts.request_id, "results": results, "meta": meta(len(logits), "2")}
    answer = {**head, "object": "rerank", "usage": usage, "results": results}
    return answer if asked.api == "infinity" else {**answer, "meta": meta(len(logits), "1")}


def meta(documents: int, version: str) -> dict[str, Any]:
    """As Cohere has it."""
    return {
        "api_version": {"version": version, "is_experimental": False},
        "billed_units": {"search_units": math.ceil(documents / SEARCH_UNIT)},
    }
