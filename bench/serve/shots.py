"""What the clients of a soak send, and what must come back: drawn by number, so that a soak can be repeated."""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import numpy.typing as npt

from secondstage.serve import Pipeline, SearchOptions

from .conventions import CONVENTIONS, PREFIX, Convention, spoiled

# Limits that a soak can pass without sending much, and a queue that 64 clients can fill.
MAX_BODY_MIB = 1
MAX_DOCUMENTS = 64
SETTINGS = (
    f"max_body_mib={MAX_BODY_MIB}",
    f"max_documents={MAX_DOCUMENTS}",
    f"prefix={PREFIX}",
    "queue_tokens=8192",
)

# How often each kind of request is drawn.
WEIGHTS = {"rerank": 70, "search": 10, "leave": 6, "half": 4, "spoiled": 6, "many": 2, "large": 2}
REFUSED = frozenset({400, 413, 422})
WORDS = 12
# Documents of a request, at most; and of a search: reranked, and returned.
MOST, DEPTH, TOP = 8, 4, 3


class Leaves(NamedTuple):
    """A client that goes away: after which part of the body, and how many seconds later."""

    part: float
    after: float


class Shot(NamedTuple):
    """One request.

    Attributes:
        kind: names it in the counts.
        path: where it goes.
        body: as it is sent.
        expected: the statuses that are right.
        check: says what is wrong with the JSON of an answer with status 200; an empty text if nothing is.
        leaves: of a client that does not wait.
        declared: the statuses that the API's own description has for this path.
    """

    kind: str
    path: str
    body: bytes
    expected: frozenset[int] = frozenset({200})
    check: Callable[[Any], str] | None = None
    leaves: Leaves | None = None
    declared: frozenset[str] = frozenset()

    def declares(self, status: int) -> bool:
        """Whether the status is in the description: as itself, or by its first digit."""
        return not self.declared or bool(self.declared & {str(status), f"{status // 100}XX"})


class Pool(NamedTuple):
    """Texts, and what the reranker says of every pair of them.

    Attributes:
        queries: texts.
        documents: short texts.
        logits: `[queries, documents]`.
        searches: by query, the documents that a search finds, best first: (doc_id, logit).
    """

    queries: Sequence[str]
    documents: Sequence[str]
    logits: npt.NDArray[np.float32]
    searches: Mapping[str, Sequence[tuple[str, float]]]


class Shots:
    """Draws requests by their number."""

    def __init__(self, pool: Pool, declared: Mapping[str, frozenset[str]], *, tolerance: float, seed: int = 13) -> None:
        """Args: the pool; the declared statuses by path; how far scores may be off; and the seed of all draws."""
        self.pool, self.declared, self.tolerance, self.seed = pool, declared, tolerance, seed

    @classmethod
    def of(
        cls, bundle: Path, backend: str, url: str, *, tolerance: float, queries: int = 48, documents: int = 96
    ) -> Shots:
        """From the documents of a bundle, scored by the engine that also serves them, in this process."""
        pool = make_pool(Pipeline.load(bundle, backend), queries, documents)
        return cls(pool, declared_statuses(httpx.get(f"{url}/openapi.json").json()), tolerance=tolerance)

    def draw(self, number: int) -> Shot:
        """The request of this number."""
        draw = random.Random(f"{self.seed}-{number}")
        kind = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        shot = self._search(draw) if kind == "search" else self._rerank(draw, kind)
        if kind in ("leave", "half"):
            leaves = Leaves(1.0 if kind == "leave" else draw.random(), draw.random() * 0.03)
            shot = shot._replace(kind=kind, leaves=leaves)
        return shot._replace(declared=self.declared.get(shot.path, frozenset()))

    def _rerank(self, draw: random.Random, kind: str) -> Shot:
        convention, query = draw.choice(CONVENTIONS), draw.randrange(len(self.pool.queries))
        places = draw.sample(range(len(self.pool.documents)), draw.randint(1, min(MOST, len(self.pool.documents))))
        if kind == "many":
            places = [places[0]] * (MAX_DOCUMENTS + 1)
        text, documents = self.pool.queries[query], [self.pool.documents[place] for place in places]
        if kind == "large":
            documents[0] += " word" * (MAX_BODY_MIB * 2**20 // 5 + 1000)
        body = convention.encode(text, documents)
        if kind in ("many", "large"):
            expected = frozenset({413}) if kind == "large" else REFUSED
            return Shot(kind, convention.path, body, expected)
        if kind == "spoiled":
            return Shot(kind, convention.path, spoiled(convention.body(text, documents), draw), REFUSED)
        expected_logits = self.pool.logits[query, places]
        check = functools.partial(check_rerank, convention, expected_logits, self.tolerance)
        return Shot(convention.name, convention.path, body, check=check)

    def _search(self, draw: random.Random) -> Shot:
        query = draw.choice(list(self.pool.searches))
        body = {"query": query, "top_n": TOP, "depth": DEPTH}
        check = functools.partial(check_search, self.pool.searches[query], self.tolerance)
        return Shot("search", "/search", json.dumps(body).encode(), check=check)


def make_pool(pipeline: Pipeline, queries: int, documents: int) -> Pool:
    """Short documents, and queries made of their first words; every pair scored, every query searched."""
    ids = pipeline.documents.ids
    step = max(len(ids) // documents, 1)
    texts = list(dict.fromkeys(first_words(text, WORDS) for text in pipeline.documents.contents(ids[::step])))
    texts = [text for text in texts if text][:documents]
    asked = list(dict.fromkeys(first_words(text, 4) for text in texts))[:queries]
    pairs = [(query, text) for query in asked for text in texts]
    logits = np.asarray(pipeline.reranker.score(pairs), np.float32).reshape(len(asked), len(texts))
    options = SearchOptions(top_n=TOP, depth=DEPTH)
    answers = {query: pipeline.answer(query, options=options) for query in asked}
    searches = {
        query: [(result.doc_id, float(result.reranker_score or 0.0)) for result in answer.results]
        for query, answer in answers.items()
    }
    return Pool(asked, texts, logits, searches)


def first_words(text: str, count: int) -> str:
    """The text's first words, joined by spaces."""
    return " ".join(re.findall(r"\S+", text)[:count])


def declared_statuses(openapi: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """The statuses that the description of the API has for a POST, by path."""
    return {
        path: frozenset(methods["post"]["responses"]) for path, methods in openapi["paths"].items() if "post" in methods
    }


def check_rerank(convention: Convention, logits: npt.NDArray[np.float32], tolerance: float, answer: Any) -> str:
    """What is wrong with an answer; an empty text if nothing is."""
    found = convention.read(answer)
    if found.keys() != set(range(len(logits))):
        return f"{convention.name}: {len(logits)} documents, indices {sorted(found)}"
    expected = logits if convention.logits else 1 / (1 + np.exp(-logits.astype(np.float64)))
    off = max(abs(found[i] - float(expected[i])) for i in found)
    if not off <= tolerance:
        return f"{convention.name}: a score is off by {off:.2g}"
    given = list(found.values())
    if convention.name != "vllm-score" and given != sorted(given, reverse=True):
        return f"{convention.name}: not in order"
    return ""


def check_search(expected: Sequence[tuple[str, float]], tolerance: float, answer: Any) -> str:
    """The same of a search: documents, order and logits; scores within the tolerance may change places."""
    results = [(result["doc_id"], result["reranker_score"]) for result in answer["results"]]
    if len(results) != len(expected):
        return f"search: {len(results)} results, not {len(expected)}"
    logits = dict(expected)
    for (doc_id, logit), (_, other) in zip(results, expected, strict=True):
        if abs(logit - logits.get(doc_id, other)) > tolerance:
            return f"search: {doc_id} has {logit}, not {logits.get(doc_id, other)}"
    strangers = sum(doc_id not in logits for doc_id, _ in results)
    return f"search: {strangers} documents that the library does not find" if strangers > 1 else ""
