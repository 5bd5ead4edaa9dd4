"""Every rerank API that the server speaks, as a client speaks it: a body, and the scores in its answer."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

# Where the server is told to put Infinity's API: its answers differ from those of vLLM on the same path.
PREFIX = "/infinity"

Body = dict[str, Any]
Given = dict[int, float]
"""Scores by the index of the document."""


class Convention(NamedTuple):
    """One API.

    Attributes:
        name: of it.
        path: where requests go.
        body: of a query and its documents.
        read: the scores in the JSON of an answer.
        logits: whether they are logits, and not sigmoids of them.
    """

    name: str
    path: str
    body: Callable[[str, Sequence[str]], Body]
    read: Callable[[Any], Given]
    logits: bool = False

    def encode(self, query: str, documents: Sequence[str]) -> bytes:
        """The body as it is sent."""
        return json.dumps(self.body(query, documents)).encode()


def _plain(query: str, documents: Sequence[str]) -> Body:
    return {"model": "bundle", "query": query, "documents": list(documents)}


def _listed(query: str, documents: Sequence[str]) -> Body:
    return {**_plain(query, documents), "top_n": len(documents), "return_documents": False}


def _returned(query: str, documents: Sequence[str]) -> Body:
    return {**_plain(query, documents), "return_documents": True}


def _objects(query: str, documents: Sequence[str]) -> Body:
    texts = [{"text": document} for document in documents]
    return {"model": "bundle", "query": query, "documents": texts, "return_documents": True}


def _texts(query: str, documents: Sequence[str], *, raw: bool) -> Body:
    return {"query": query, "texts": list(documents), "raw_scores": raw, "truncate": True}


def _pairs(query: str, documents: Sequence[str]) -> Body:
    return {"model": "bundle", "text_1": query, "text_2": list(documents)}


def _results(answer: Any) -> Given:
    return once((result["index"], result["relevance_score"]) for result in answer["results"])


def _scores(answer: Any) -> Given:
    return once((result["index"], result["score"]) for result in answer)


def _data(answer: Any) -> Given:
    return once((result["index"], result["score"]) for result in answer["data"])


def once(scores: Any) -> Given:
    """By index.

    Raises:
        ValueError: a document has two scores.
    """
    listed = list(scores)
    found = dict(listed)
    if len(found) != len(listed):
        raise ValueError("a document has two scores")
    return found


CONVENTIONS = (
    Convention("tei", "/rerank", lambda q, d: _texts(q, d, raw=False), _scores),
    Convention("tei-raw", "/rerank", lambda q, d: _texts(q, d, raw=True), _scores, logits=True),
    Convention("cohere-v2", "/v2/rerank", _plain, _results),
    Convention("cohere-v1", "/v1/rerank", _objects, _results),
    Convention("jina", "/v1/rerank", _listed, _results),
    Convention("vllm", "/rerank", _plain, _results),
    Convention("vllm-score", "/score", _pairs, _data),
    Convention("infinity", f"{PREFIX}/rerank", _returned, _results),
)


def spoiled(body: Mapping[str, Any], draw: random.Random) -> bytes:
    """A body that no API takes: cut JSON, a wrong type, a missing field, bytes that are no text."""
    whole = json.dumps(body).encode()
    fault = draw.randrange(5)
    if fault == 0:
        return whole[: draw.randrange(1, len(whole))]
    if fault == 1:
        name = "query" if "query" in body else "text_1"
        # An empty text is no query, but `/score` compares any texts.
        return json.dumps({**body, name: draw.choice([None, 7, {}] + [""] * (name == "query"))}).encode()
    if fault == 2:
        return json.dumps({name: value for name, value in body.items() if name == "model"}).encode()
    if fault == 3:
        return b"\xff\xfe" + whole
    return json.dumps(draw.choice([None, 7, "text", [], [body]])).encode()
