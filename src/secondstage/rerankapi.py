"""What rerank APIs are sent and what they answer.

cohere (v1 and v2): `{model, query, documents, top_n}`, answered by `{results: [{index, relevance_score}], meta:
{billed_units: {search_units}}}`. jina: the same, with `usage: {total_tokens}`; so speak vLLM and Infinity. tei:
`{query, texts, raw_scores, truncate}`, answered by `[{index, score}]`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from .endpoint import whole
from .run import LARGEST

Api = Literal["cohere", "jina", "tei"]

# Documents of a request, where nobody says otherwise: Cohere's advice, and what TEI takes unless it is told otherwise.
SIZES: dict[Api, int] = {"cohere": 100, "jina": 100, "tei": 32}
NAMED = '{"results": [{"index": 0, "relevance_score": 0.5}, …]}, one result for each document'
SHAPES: dict[Api, str] = {
    "cohere": f"Cohere's: {NAMED}",
    "jina": f"Jina's: {NAMED}",
    "tei": 'TEI\'s: [{"index": 0, "score": 0.5}, …], one result for each document',
}


def request(query: str, documents: list[str], model: str, api: Api) -> dict[str, Any]:
    """The body of a request; without a model if that is empty, for servers that hold one."""
    if api == "tei":
        # Logits do not saturate as probabilities do; texts are cut to what the model reads, not refused.
        return {"query": query, "texts": documents, "raw_scores": True, "truncate": True}
    body: dict[str, Any] = {"query": query, "documents": documents, "top_n": len(documents)}
    # Jina sends every text back unless it is told not to.
    body |= {"return_documents": False} if api == "jina" else {}
    return body | ({"model": model} if model else {})


class Answer(NamedTuple):
    """What an answer says.

    Attributes:
        scores: `[documents]`, in the order in which they were sent.
        tokens: that it took; 0 if it does not tell.
        search_units: the same of Cohere's unit.
    """

    scores: list[float]
    tokens: int = 0
    search_units: int = 0


def read_answer(content: bytes, count: int, api: Api = "cohere") -> Answer:
    """Read the body of the answer to a request with `count` documents.

    Raises:
        ValueError: it has not the shape, a document has no score or two, or one is not finite in single precision.
    """
    try:
        return _read(content, count, api)
    except ValueError as error:
        raise ValueError(f"{error}; the answer must be {SHAPES[api]}") from None


def _read(content: bytes, count: int, api: Api) -> Answer:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("the answer is not JSON") from None
    if api == "tei":
        return Answer(_scores(answer, "score", count, "is no list of objects"))
    answer = answer if isinstance(answer, dict) else {}
    scores = _scores(answer.get("results"), "relevance_score", count, "has no list of objects under 'results'")
    tokens = whole(_inner(answer, "usage").get("total_tokens"))
    return Answer(scores, tokens, whole(_inner(_inner(answer, "meta"), "billed_units").get("search_units")))


def _scores(results: object, field: str, count: int, fault: str) -> list[float]:
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise ValueError(f"the answer {fault}")
    scores: dict[int, float] = {}
    for result in results:
        index, score = result.get("index"), result.get(field)
        if type(index) is not int or not 0 <= index < count:
            raise ValueError(f"a result has index {index!r:.20}, but {count} documents were sent")
        if index in scores:
            raise ValueError(f"document {index} has two results")
        if type(score) not in (int, float) or not abs(score) <= LARGEST:
            raise ValueError(f"the {field} of document {index} is no finite number: {score!r:.20}")
        scores[index] = float(score)
    if missing := set(range(count)) - scores.keys():
        raise ValueError(f"{len(missing)} of {count} documents have no result, document {min(missing)} first")
    return [scores[i] for i in range(count)]


def _inner(answer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = answer.get(name)
    return value if isinstance(value, dict) else {}
