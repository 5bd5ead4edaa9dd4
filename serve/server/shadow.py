"""Shadow mode: a second reranker scores the candidates of searches that were answered, and nobody waits for it."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from secondstage.collection import Documents
from secondstage.compute import Precision
from secondstage.errors import UserError
from secondstage.inputs import check_trained
from secondstage.pairmodel import PairModel
from secondstage.progress import say
from secondstage.rerankers import load_reranker
from secondstage.scoring import Scorer, as_scores

from ..opening import RERANKER, SETTINGS, read_bundle, refuse_pickles
from .movement import discounted_overlap, displacement, kendall_tau

# Searches that wait; a newer one is dropped.
HELD = 16
# What a stopping server waits for the search that is being scored.
STOP_SECONDS = 10.0
# The lowest priority of a process; Linux has one for each thread.
NICE = 19


class Difference(NamedTuple):
    """How a second reranker would have ordered the candidates of a search.

    Attributes:
        top1: whether the two rerankers agree on the first document.
        tau: Kendall's, over all candidates; none for a single one.
        overlap: nDCG@10 of the second one's order, where the first one's top 10 are what is relevant.
        displacement: by how many ranks the second one's top 10 have moved, on average.
        milliseconds: that scoring took.
    """

    top1: bool
    tau: float | None
    overlap: float
    displacement: float
    milliseconds: float


class Candidates(NamedTuple):
    """What a search reranked, of which there is something.

    Attributes:
        request_id: of the search.
        query: its text.
        doc_ids: `[n]` in the first stage's order.
        scores: `[n]` logits.
    """

    request_id: str
    query: str
    doc_ids: Sequence[str]
    scores: Sequence[float]


def compare(
    doc_ids: Sequence[str], scores: Sequence[float], others: Sequence[float], milliseconds: float
) -> Difference:
    """The orders that two rerankers give the same candidates; equal scores keep the order given."""
    left, right = ordered(doc_ids, scores), ordered(doc_ids, others)
    return Difference(
        left[0] == right[0],
        kendall_tau(left, right),
        discounted_overlap(left, right),
        displacement(left, right),
        milliseconds,
    )


def ordered(doc_ids: Sequence[str], scores: Sequence[float]) -> list[str]:
    """The best first."""
    order: list[int] = np.argsort(-np.asarray(scores), kind="stable").tolist()
    return [doc_ids[i] for i in order]


class Shadow:
    """Scores in a thread of the lowest priority, one search at a time."""

    def __init__(
        self,
        scorer: Scorer,
        documents: Documents,
        told: Callable[[str, Difference], None],
        count: Callable[[str], None],
        held: int = HELD,
    ) -> None:
        """Start it.

        Args:
            scorer: the second reranker.
            documents: those that are searched.
            told: is given the id of each search that was compared, and the difference, in the thread.
            count: is told `compared`, `dropped` or `failed` for each search, in any thread.
            held: searches that may wait.
        """
        self._scorer, self._documents, self._told, self._count = scorer, documents, told, count
        self._waiting: queue.Queue[Candidates] = queue.Queue(held)
        self._stopped = threading.Event()
        self._said = False
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, candidates: Candidates) -> None:
        """Hand over a search that was answered; it is dropped if too many wait."""
        try:
            self._waiting.put_nowait(candidates)
        except queue.Full:
            self._count("dropped")

    def close(self) -> None:
        """End the search that is being scored; those that wait are dropped."""
        self._stopped.set()
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
                self._count("dropped")
        # Wakes a thread that waits for work.
        self._waiting.put(Candidates("", "", (), ()))
        self._thread.join(STOP_SECONDS)

    def _work(self) -> None:
        lower_priority()
        while (found := self._waiting.get()) and not self._stopped.is_set():
            try:
                difference = self._compare(found)
            except Exception as error:  # whatever the shadow does, production goes on
                self._count("failed")
                if not self._said:
                    say(f"shadow mode: a search could not be scored ({error}); such are counted in /metrics")
                    self._said = True
            else:
                self._count("compared")
                self._told(found.request_id, difference)

    def _compare(self, found: Candidates) -> Difference:
        start = time.perf_counter()
        pairs = [(found.query, content) for content in self._documents.contents(found.doc_ids)]
        scores = as_scores(self._scorer.score(pairs), len(pairs))
        if not np.isfinite(scores).all():
            raise ValueError("a score is not finite")
        return compare(found.doc_ids, found.scores, scores.tolist(), 1000 * (time.perf_counter() - start))


def lower_priority() -> None:
    """Let the other threads go first, where a thread has a priority of its own: on Linux.

    The threads that a library starts from this one to compute inherit it.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def load_shadow(folder: str, *, batch_tokens: int, precision: Precision) -> PairModel:
    """Open a bundle's reranker, or a model's folder.

    Raises:
        UserError: there is no such folder, the model cannot be opened, or would run code; or the bundle was changed.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"shadow={folder} is no folder: give a bundle, or the folder of a reranker")
    if (path / SETTINGS).is_file():
        read_bundle(path)
        path = path / RERANKER
    refuse_pickles(path, sorted(found.name for found in path.iterdir()))
    check_trained(str(path), "shadow")
    return load_reranker(path, batch_tokens=batch_tokens, precision=precision)
