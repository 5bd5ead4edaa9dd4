"""A scorer behind a rerank API: Cohere's shape, which vLLM and Infinity speak as well, Jina's or TEI's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .config import RemoteConfig
from .endpoint import Endpoint, Kind
from .files import fingerprint
from .firstwords import first_words
from .refusals import HOPELESS, HopelessError
from .rerankapi import SIZES, Answer, read_answer, request
from .run import Scores
from .scorecache import CachedScorer
from .scoring import streamed

Parts = dict[int, list[int]]
"""The places of pairs that are asked about together, by the first of them."""

KIND = Kind("a rerank API", "https://api.cohere.com/v2/rerank", "lower document_words or documents_per_request")


class RemoteReranker:
    """A rerank API: POST a query and documents, answered by an index and a score for each document; see `rerankapi`.

    Attributes:
        config: how it is asked.
        documents: how many were scored.
        refused: how many were not, for the server refuses them, each alone.
        tokens: what the answers say they took.
        search_units: the same of Cohere's unit, a query with up to 100 documents.
        seconds: wall time of the calls of `score` and `stream`.
        proven: tells whether the server answered before, where its scores are kept.
    """

    def __init__(self, config: RemoteConfig, *, price: float = 0.0, backoff: float = 1.0) -> None:
        """Nothing is sent before the first call of `score`.

        Args:
            config: its address with the path, e.g. https://api.cohere.com/v2/rerank; model, key, shape, patience.
            price: of a million tokens, or of a thousand search units, in any currency.
            backoff: seconds before the first retry, doubled for each further one.

        Raises:
            UserError: the environment variable with the key is not set, the address is none, or the key holds what no
                key does.
        """
        self.documents = self.refused = self.tokens = self.search_units = 0
        self.seconds = 0.0
        self.config, self._price = config, price
        self._size = config.documents_per_request or SIZES[config.api]
        self.proven: Callable[[], bool] = lambda: False
        self._endpoint = Endpoint(config, KIND, backoff=backoff)

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        """Score (query text, document text) pairs.

        Args:
            pairs: `[n]` pairs; those of one query go together, wherever they stand.
            label: shows a progress bar under this name.

        Returns:
            `[n]` relevance scores, in the order of the pairs; NaN where the server refuses the document.

        Raises:
            UserError: the server refused all requests, wants none, or gave no answer after all retries.
        """
        return streamed(self, pairs, label=label)

    def stream(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[list[int], Sequence[float]]]:
        """Score pairs, request by request: the places of its pairs and their scores, in the order of the answers.

        A request that is refused for its content is asked again in halves, so that one document leaves no other without
        score.

        Raises:
            UserError: as `score`, after the scores of all requests that ended well.
        """
        started = time.perf_counter()
        waiting = {places[0]: places for _, places in grouped(pairs, self._size)}
        try:
            while waiting:
                halves: Parts = {}
                try:
                    yield from self._asked(pairs, waiting, halves)
                except HopelessError as error:
                    yield from self._probed(pairs, waiting, halves, error)
                waiting |= halves
        finally:
            self.seconds += time.perf_counter() - started

    def _asked(
        self, pairs: Sequence[tuple[str, str]], parts: Parts, halves: Parts, *, probe: bool = False
    ) -> Iterator[tuple[list[int], Sequence[float]]]:
        """Score the pairs of each part, or put its halves among those; either takes it out of the parts."""

        def body(places: list[int]) -> dict[str, Any]:
            documents = [self.shown(pairs[i][1]) for i in places]
            return request(pairs[places[0]][0], documents, self.config.model, self.config.api)

        def read(places: list[int], content: bytes) -> Answer:
            return read_answer(content, len(places), self.config.api)

        jobs = ((places, body(places)) for places in list(parts.values()))
        for places, answer in self._endpoint.ask(jobs, read, proven=self.proven(), probe=probe):
            del parts[places[0]]
            if answer is not None:
                self.documents += len(places)
                self.tokens += answer.tokens
                self.search_units += answer.search_units
                yield places, answer.scores
            elif len(places) > 1:
                half = len(places) // 2
                halves |= {places[0]: places[:half], places[half]: places[half:]}
            else:
                self.refused += 1
                yield places, [np.nan]

    def _probed(
        self, pairs: Sequence[tuple[str, str]], waiting: Parts, halves: Parts, error: HopelessError
    ) -> Iterator[tuple[list[int], Sequence[float]]]:
        """Ask ever smaller halves until the server answers one: each list may hold a document that is refused.

        Raises:
            HopelessError: it refuses even single documents, or as many requests as before.
        """
        if not halves:
            halves |= {place: waiting.pop(place) for place in list(waiting) if len(waiting[place]) > 1}
        before = self.documents
        for _ in range(HOPELESS):
            if halves and self.documents == before:
                smallest = min(halves, key=lambda place: len(halves[place]))
                yield from self._asked(pairs, {smallest: halves.pop(smallest)}, halves, probe=True)
        if self.documents == before:
            raise error

    def shown(self, document: str) -> str:
        """What is sent of a document."""
        words = self.config.document_words
        return first_words(document, words) if words else document

    def report(self) -> dict[str, Any]:
        """What it cost so far: counts, tokens or search units as far as the answers tell, their price, wall seconds."""
        charged = self.search_units / 1e3 if self.search_units else self.tokens / 1e6
        return {
            "documents": self.documents,
            "refused": self.refused,
            "requests": self._endpoint.requests,
            "retries": self._endpoint.retries,
            "tokens": self.tokens,
            "search_units": self.search_units,
            "cost": self._price * charged,
            "seconds": round(self.seconds, 3),
        }


def keep_remote_scores(remote: RemoteReranker, folder: Path) -> CachedScorer:
    """Keep every score of an API in a file below `folder`, named after its address, model and shape.

    It is written with every answer: a kill loses the requests under way at most. A score is kept by what was sent of
    its document, so that with other `document_words` only what they cut otherwise is paid for again.
    """
    config = remote.config
    name = fingerprint("remote", config.url, config.model, config.api)[:16]
    kept = CachedScorer(remote, folder / f"{name}.scores", shown=remote.shown)
    remote.proven = lambda: kept.found > 0
    return kept


def grouped(pairs: Sequence[tuple[str, str]], size: int) -> Iterator[tuple[str, list[int]]]:
    """Each query with the places of its pairs, at most `size` of them at a time."""
    places: dict[str, list[int]] = {}
    for i, (query, _) in enumerate(pairs):
        places.setdefault(query, []).append(i)
    for query, rows in places.items():
        yield from ((query, rows[start : start + size]) for start in range(0, len(rows), size))
