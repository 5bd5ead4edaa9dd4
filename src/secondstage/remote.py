"""A scorer behind a rerank API in Cohere's shape, which Jina, vLLM and Infinity speak as well."""

from __future__ import annotations

import json
import os
import random
import re
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext, suppress
from email.utils import parsedate_to_datetime
from threading import Event, Lock
from typing import Any

import numpy as np

from .errors import UserError
from .progress import bar
from .run import LARGEST, Scores

# Characters of an answer that an error shows.
EXCERPT = 200
# Seconds between two attempts, at most, whatever the server asks for.
LONGEST_PAUSE = 60.0
# No user before the host: that is where some put a key, and errors show the address.
ADDRESS = r"https?://(\[[\da-fA-F:.]+\]|[^\s/?#:@\[\]]+)(:\d+)?([/?]\S*)?"
SHAPE = '{"results": [{"index": 0, "relevance_score": 0.5}, …]}, one result for each document'


class RemoteReranker:
    """A rerank API: POST `{model, query, documents, top_n}`, answered by `{results: [{index, relevance_score}]}`.

    Attributes:
        requests: how many were sent, every attempt counted.
        retries: how many of them repeated one that failed.
        documents: how many were scored.
        seconds: wall time of the calls of `score` that ended well.
    """

    def __init__(
        self,
        url: str,
        model: str = "",
        api_key: str | None = None,
        *,
        api_key_env: str = "",
        timeout: float = 60.0,
        concurrency: int = 4,
        documents_per_request: int = 100,
        retries: int = 5,
        backoff: float = 1.0,
    ) -> None:
        """Nothing is sent before the first call of `score`.

        Args:
            url: the endpoint, path included, e.g. https://api.cohere.com/v2/rerank.
            model: its name there; left out of the requests if empty, for servers that hold one model.
            api_key: sent as a bearer token.
            api_key_env: the environment variable that the key came from, for errors to name.
            timeout: seconds to connect, and between two pieces of an answer.
            concurrency: requests under way at a time.
            documents_per_request: at most.
            retries: of a request that the server was too busy or too broken to answer.
            backoff: seconds before the first retry, doubled for each further one.

        Raises:
            UserError: `url` is no web address, or the key holds what no key does.
        """
        import httpx

        if not re.fullmatch(ADDRESS, url):
            raise UserError("a rerank API has an address such as https://api.cohere.com/v2/rerank, and no key in it")
        self.url = url
        self.requests = self.retries = self.documents = 0
        self.seconds = 0.0
        self._key = (api_key or "").strip()
        # An HTTP library would show the whole header in its complaint.
        if not re.fullmatch("[!-~]*", self._key):
            raise UserError(f"the API key for {self.url} holds white space or letters beyond ASCII: copy it anew")
        self._model, self._key_name, self._threads = model, api_key_env, concurrency
        self._size, self._most_retries, self._backoff = documents_per_request, retries, backoff
        self._lock = Lock()
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = httpx.Client(headers=headers, timeout=timeout)
        weakref.finalize(self, self._client.close)

    @classmethod
    def from_settings(cls, url: str, model: str = "", api_key_env: str = "", **settings: Any) -> RemoteReranker:
        """The same, with the key read from the environment variable that `api_key_env` names, if it names one.

        Raises:
            UserError: that variable is not set.
        """
        key = os.environ.get(api_key_env, "") if api_key_env else None
        if key is not None and not key.strip():
            # What is not written like the name of a variable may be the key itself.
            name = api_key_env if re.fullmatch("[A-Z][A-Z0-9_]{0,39}", api_key_env) else "that api_key_env names"
            raise UserError(
                f"the environment variable {name} is not set: export the API key, or leave api_key_env empty for none"
            )
        return cls(url, model, key, api_key_env=api_key_env, **settings)

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        """Score (query text, document text) pairs.

        Args:
            pairs: `[n]` pairs; those of one query go together, wherever they stand.
            label: shows a progress bar under this name.

        Returns:
            `[n]` relevance scores, in the order of the pairs.

        Raises:
            UserError: the server refused, gave no answer after all retries, or a faulty one.
        """
        scores = np.zeros(len(pairs), np.float32)
        started = time.perf_counter()
        with bar(total=len(pairs), label=label, unit="pair") if label else nullcontext() as progress:
            for places, values in self._answers(pairs):
                scores[places] = values
                self.documents += len(places)
                if progress is not None:
                    progress.update(len(places))
        self.seconds += time.perf_counter() - started
        return scores

    def _answers(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[list[int], list[float]]]:
        """The places and scores of each request's pairs, in the order of the answers."""
        stop = Event()
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                asked = {
                    pool.submit(self._ask, query, [pairs[i][1] for i in places], stop): places
                    for query, places in grouped(pairs, self._size)
                }
                for future in as_completed(asked):
                    yield asked[future], future.result()
            finally:
                # After an error, what waits for its turn or for a retry is given up.
                stop.set()
                pool.shutdown(cancel_futures=True)

    def _ask(self, query: str, documents: list[str], stop: Event) -> list[float]:
        """The scores of one request's documents, in as many attempts as it takes or as there are."""
        body = {"query": query, "documents": documents, "top_n": len(documents)}
        if self._model:
            body["model"] = self._model
        attempt = 0
        while True:
            try:
                content = self._send(body, attempt)
                break
            except _BusyError as busy:
                problem, status, retry_after = busy.args
                attempt += 1
                wait = pause(attempt, retry_after, base=self._backoff, jitter=random.random())
                if attempt > self._most_retries or stop.wait(wait):
                    raise UserError(f"{self.url}: {problem}, in {attempt} attempts; {way_out(status)}") from None
        try:
            return relevance_scores(content, len(documents))
        except ValueError as error:
            raise UserError(f"{self.url}: {error}; the answer must be Cohere's: {SHAPE}") from None

    def _send(self, body: dict[str, Any], attempt: int) -> bytes:
        import httpx

        with self._lock:
            self.requests += 1
            self.retries += attempt > 0
        try:
            response = self._client.post(self.url, json=body)
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise _BusyError(str(error) or type(error).__name__, 0, "") from None
        status = response.status_code
        if response.is_success:
            return response.content
        # A server may repeat the key that it refuses.
        text = response.text.replace(self._key, "…") if self._key else response.text
        problem = f"status {status}, {text[:EXCERPT]!r}"
        if status == 429 or status >= 500:
            raise _BusyError(problem, status, response.headers.get("Retry-After", ""))
        raise UserError(f"{self.url}: {problem}; {way_out(status, self._key_name)}")


class _BusyError(Exception):
    """What was wrong, the status (0 for no answer) and the Retry-After header of a request worth another attempt."""


def grouped(pairs: Sequence[tuple[str, str]], size: int) -> Iterator[tuple[str, list[int]]]:
    """Each query with the places of its pairs, at most `size` of them at a time."""
    places: dict[str, list[int]] = {}
    for i, (query, _) in enumerate(pairs):
        places.setdefault(query, []).append(i)
    for query, rows in places.items():
        yield from ((query, rows[start : start + size]) for start in range(0, len(rows), size))


def relevance_scores(content: bytes, count: int) -> list[float]:
    """The scores in an answer's body, in the order of the `count` documents that were sent.

    Raises:
        ValueError: it has not the shape, a document has no score or two, or one is not finite in single precision.
    """
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("the answer is not JSON") from None
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise ValueError("the answer has no list of objects under 'results'")
    scores: dict[int, float] = {}
    for result in results:
        index, score = result.get("index"), result.get("relevance_score")
        if type(index) is not int or not 0 <= index < count:
            raise ValueError(f"a result has index {index!r:.20}, but {count} documents were sent")
        if index in scores:
            raise ValueError(f"document {index} has two results")
        if type(score) not in (int, float) or not abs(score) <= LARGEST:
            raise ValueError(f"the relevance_score of document {index} is no finite number: {score!r:.20}")
        scores[index] = float(score)
    if missing := set(range(count)) - scores.keys():
        raise ValueError(f"{len(missing)} of {count} documents have no result, document {min(missing)} first")
    return [scores[i] for i in range(count)]


def pause(attempts: int, retry_after: str, *, base: float, jitter: float) -> float:
    """Seconds before a retry: exponential backoff, or longer where the server says so, but never too long.

    `attempts` failed; `retry_after` is the header (RFC 9110), in seconds, a date or empty; `base` is the first pause;
    `jitter`, from [0, 1), takes off up to half, so that clients that failed together do not come back together.
    """
    number, asked = re.fullmatch(r"\d+(\.\d+)?", retry_after), 0.0
    with suppress(ValueError, OverflowError):
        asked = float(retry_after) if number else parsedate_to_datetime(retry_after).timestamp() - time.time()
    own = base * 2.0 ** min(attempts - 1, 30) * (1 - jitter / 2)
    return min(LONGEST_PAUSE, max(own, asked))


def way_out(status: int, key_name: str = "") -> str:
    """What to do about an HTTP status that is no success; 0 is no answer at all."""
    if status in (401, 403):
        return f"check the API key, which {f'is read from {key_name}' if key_name else 'api_key_env can name'}"
    if status == 0 or status >= 500:
        return "check that the server runs and can be reached, then try again"
    known = {413: "lower documents_per_request", 429: "lower concurrency, or try again later"}
    return known.get(status, "check the URL, path included, and the name of the model")
