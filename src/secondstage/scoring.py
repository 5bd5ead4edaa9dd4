"""Scorers: whatever scores query-document pairs, and the reranking of a run by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from hashlib import blake2b
from typing import Protocol, runtime_checkable

import numpy as np

from .collection import Documents
from .errors import UserError
from .progress import bar
from .run import Run, Scores


class Scorer(Protocol):
    """A model, an API, a cache before either, a baseline."""

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        """Score (query text, document text) pairs.

        Args:
            pairs: `[n]` pairs.
            label: shows a progress bar under this name.

        Returns:
            `[n]` scores, in the order of the pairs: higher is more relevant.
        """
        ...


@runtime_checkable
class StreamingScorer(Protocol):
    """A scorer that gives scores as they come: what was paid for need not wait for the rest."""

    def stream(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[Sequence[int], Sequence[float] | Scores]]:
        """Score pairs part by part: the places of its pairs and their scores, each place once, in any order."""
        ...


def streamed(scorer: StreamingScorer, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
    """`[n]` scores of `[n]` pairs, in their order, by a scorer that gives them as they come; `label` shows a bar."""
    scores = np.zeros(len(pairs), np.float32)
    with bar(total=len(pairs), label=label, unit="pair") if label else nullcontext() as progress:
        for places, values in scorer.stream(pairs):
            scores[places] = values
            if progress is not None:
                progress.update(len(places))
    return scores


def rerank(
    scorer: Scorer,
    run: Run,
    queries: Mapping[str, str],
    documents: Documents,
    *,
    name: str = "reranked",
    label: str | None = None,
) -> Run:
    """Order every list of `run` by the scorer's scores; equal scores keep the run's order.

    Args:
        scorer: any.
        run: the first stage's lists.
        queries: texts by query id.
        documents: the corpus.
        name: of the new run.
        label: shows a progress bar under this name.

    Raises:
        UserError: a score is not finite, so no order can be made of it.
    """
    pairs = [
        (queries[query_id], content)
        for query_id, ranking in run.items()
        for content in documents.contents(ranking.doc_ids)
    ]
    return rerank_pairs(scorer, run, pairs, name=name, label=label)


def rerank_pairs(
    scorer: Scorer, run: Run, pairs: Sequence[tuple[str, str]], *, name: str = "reranked", label: str | None = None
) -> Run:
    """The same, of the texts of all pairs, in the order of `run.pairs()`."""
    return rescored(run, scorer.score(pairs, label=label), name=name)


def rescored(run: Run, scores: object, *, name: str = "reranked") -> Run:
    """Order every list of `run` by scores, given in the order of `run.pairs()`; equal ones keep the run's order.

    Raises:
        UserError: a score is not finite, so no order can be made of it.
        ValueError: these are not as many numbers as there are pairs.
    """
    values = as_scores(scores, sum(len(ranking.doc_ids) for ranking in run.values()))
    if broken := int((~np.isfinite(values)).sum()):
        raise UserError(
            f"{name}: {broken} of {len(values)} scores are not finite, so no order can be made of them: "
            "mend or leave out this system"
        )
    return run.rescored(name, values)


class Constant:
    """Scores everything 0: reranking by it changes nothing."""

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        """`[n]` zeros."""
        return np.zeros(len(pairs), np.float32)


class Random:
    """Scores drawn from [0, 1) by the seed and the pair's texts alone: neither order nor batch matters."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        """`[n]` scores."""
        key = str(self.seed).encode()
        # 24 bits, as many as single precision holds: none rounds to 1.
        draws = [int.from_bytes(pair_digest(*pair, size=3, key=key), "big") for pair in pairs]
        return np.array([draw / (1 << 24) for draw in draws], np.float32)


def pair_digest(query: str, document: str, *, size: int = 16, key: bytes = b"") -> bytes:
    """BLAKE2b of two texts, each led by its length, so that no other two texts run together to the same bytes.

    Args:
        query: the first text.
        document: the second.
        size: bytes of the digest.
        key: gives other digests, as many as there are keys.
    """
    digest = blake2b(digest_size=size, key=key)
    for text in (query, document):
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.digest()


def as_scores(values: object, count: int) -> Scores:
    """What a scorer gave, in single precision: not finite where it is too large for that.

    Raises:
        ValueError: these are not `count` numbers.
    """
    with np.errstate(over="ignore"):
        scores = np.asarray(values, np.float32)
    if scores.shape != (count,):
        raise ValueError(f"{count} pairs, but scores of shape {scores.shape}")
    return scores
