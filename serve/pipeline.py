"""The two-stage pipeline: retrieve, rerank, fuse. It knows nothing of HTTP."""

from __future__ import annotations

import copy
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from secondstage import firststage
from secondstage.answerability import Answerability
from secondstage.backends import AUTO, TORCH, open_engine
from secondstage.collection import Documents
from secondstage.errors import UserError
from secondstage.firststage import FirstStage, search_run
from secondstage.firststage.hybrid import Hybrid
from secondstage.pairmodel import PairModel
from secondstage.run import Run
from secondstage.scoring import Scorer

from .answer import Answer, Result
from .cascade import Asking, Cascaded, Runs, Stage, drive, drive_many, reranking
from .fields import Fields
from .opening import RERANKER, engines_of, read_bundle, serve_config, stage_folders
from .options import SearchOptions, check_text
from .pace import Pace, measure, pairs_to_time
from .packing import token_counter
from .searching import Watch, searching
from .verdict import Verdict, read_verdict

# Deeper than any list.
WHOLE = sys.maxsize


class Pipeline:
    """First stage, reranker and fusion, opened from a bundle.

    Attributes:
        depth: candidates that are reranked.
        weight: the reranker's share in the final score.
        answerability: tells whether a list holds a relevant document at all; none where it was never fitted.
        verdict: what the gate said of the bundle; none where it was never evaluated.
        fallback: whether to answer in the first stage's order unless the gate let the pipeline through.
        cascade: the rerankers before the last one, in order; usually none.
        clock: gives seconds; another one in tests.
    """

    def __init__(
        self,
        first_stage: FirstStage,
        reranker: PairModel,
        documents: Documents,
        *,
        depth: int,
        weight: float,
        answerability: Answerability | None = None,
        verdict: Verdict | None = None,
        fallback: bool = False,
        cascade: Sequence[Stage] = (),
    ) -> None:
        self.first_stage = first_stage
        self.reranker = reranker
        self.documents = documents
        self.depth = depth
        self.weight = weight
        self.answerability = answerability
        self.verdict = verdict
        self.fallback = fallback
        self.cascade = tuple(cascade)
        self.scorer: Scorer = reranker
        self.clock: Callable[[], float] = time.perf_counter
        self.fields = Fields(documents)
        self.retrieving = threading.Lock()
        self._pace: Pace | None = None
        self._counter: Callable[[str], int] | None = None

    @classmethod
    def load(cls, folder: str | Path, backend: str | None = None, *, fallback: bool | None = None) -> Pipeline:
        """Open a bundle, anywhere, without a network.

        Args:
            folder: the bundle.
            backend: the engine that computes scores, one of `backends.ENGINES`; by default as `serve.backend` said
                when it was made.
            fallback: answer in the first stage's order unless the gate let the bundle through; by default as
                `serve.fallback` said when it was made.

        Raises:
            UserError: the folder is no bundle, is incomplete, was changed, or has another format; or it names what
                lies outside of it, or holds what would run code when it is opened.
        """
        folder = Path(folder)
        manifest, settings = read_bundle(folder)
        config = serve_config(settings)
        stages = stage_folders(folder, manifest, settings)
        answerability = settings.get("answerability")

        def opened(place: Path, *, needed: bool) -> PairModel:
            engines, name = engines_of(folder, place), backend or config.backend
            if not needed and name != AUTO and not (engines / name).is_dir():
                name = TORCH
            return open_engine(place, engines, name, batch_tokens=config.batch_tokens, precision=config.precision)

        reranker = opened(folder / RERANKER, needed=True)
        before = [opened(place, needed=False) for place, _ in stages]
        for model in (*before, reranker):
            model.remember_documents()
        return cls(
            firststage.load(folder / "first_stage"),
            reranker,
            Documents(folder / "documents.arrow"),
            depth=settings["depth"],
            weight=settings["weight"],
            answerability=None if answerability is None else Answerability.from_json(answerability),
            verdict=read_verdict(folder, manifest["fingerprint"]),
            fallback=config.fallback if fallback is None else fallback,
            cascade=[Stage(model, depth) for model, (_, depth) in zip(before, stages, strict=True)],
        )

    def with_scorer(self, scorer: Scorer, *, everywhere: bool = False) -> Pipeline:
        """The same pipeline, its candidates scored by something else: a cache of scores, a copy of the model.

        It stands in for the last reranker, or for all of a cascade.
        """
        other = copy.copy(self)
        other.scorer = scorer
        if everywhere:
            other.cascade = tuple(stage._replace(scorer=scorer) for stage in self.cascade)
        other._pace = None
        return other

    @property
    def falls_back(self) -> bool:
        """Whether answers are in the first stage's order: it was told so, and the gate did not let it through."""
        return self.fallback and (self.verdict is None or not self.verdict.passed)

    @property
    def refused(self) -> bool:
        """Whether the gate said no."""
        return self.verdict is not None and not self.verdict.passed

    @property
    def rerankers(self) -> tuple[Any, ...]:
        """The models of a bundle, in the order in which they read."""
        return (*(stage.scorer for stage in self.cascade), self.reranker)

    @property
    def depths(self) -> tuple[int, ...]:
        """How many candidates each reranker reads, never rising."""
        return (*(stage.depth for stage in self.cascade), self.depth)

    @property
    def scorers(self) -> tuple[Scorer, ...]:
        """What scores the pairs of each stage: `scorers[ask.stage]`."""
        return (*(stage.scorer for stage in self.cascade), self.scorer)

    def depths_for(self, depth: int | None) -> tuple[int, ...]:
        """The same if the last reranker reads so many; those before it read no fewer."""
        return self.depths if depth is None else (*(max(depth, each) for each in self.depths[:-1]), depth)

    @property
    def min_score_of(self) -> Literal["probability", "sigmoid"]:
        """What `min_score` is compared with: the probability, or the sigmoid of a logit that was never calibrated."""
        return "probability" if self.reranker.calibration else "sigmoid"

    def prepare(self) -> None:
        """Do now what is else done when it is first needed: a server calls it before several threads search."""
        self.count_tokens("")
        _ = self.fields.names
        self.pace(measured=True)

    def pace(self, *, measured: bool) -> Pace | None:
        """How fast the rerankers are here; none if it was not measured before and is not to be.

        The first time, pairs of the bundle's own documents are scored for it.
        """
        if self._pace is None and measured:
            pairs = pairs_to_time(self.documents, self.depth)
            self._pace = Pace([measure(scorer.score, pairs, self.clock) for scorer in self.scorers])
        return self._pace

    def count_tokens(self, text: str) -> int:
        """The tokens of a text, by the last reranker's tokenizer, without special ones."""
        if self._counter is None:
            # A copy: another thread may be tokenising pairs, and a tokenizer keeps how it cuts and pads.
            self._counter = token_counter(self.reranker.tokenizer)
        return self._counter(text)

    def search(self, query: str, top_n: int | None = None, *, options: SearchOptions | None = None) -> list[Result]:
        """The best documents for a query, best first; at most `depth`, fewer where fewer match.

        Args:
            query: text.
            top_n: results at most; by default as the options say, which is 10.
            options: everything else that a search may be told.

        Raises:
            UserError: the query is empty or no text, a setting makes no sense, or the first stage is a run without
                this query.
        """
        return self.answer(query, top_n, options=options).results

    def answer(self, query: str, top_n: int | None = None, *, options: SearchOptions | None = None) -> Answer:
        """What `search` finds, and the probability that the candidates hold a relevant document at all."""
        options = options or SearchOptions()
        if top_n is not None:
            options = options._replace(top_n=top_n)
        return drive(self.asking(query, options), self.scorers)

    def search_many(self, queries: Sequence[str], options: SearchOptions | None = None) -> list[Answer]:
        """The answers of several queries, as `answer` gives them one by one, their pairs scored in one call.

        The milliseconds of their reranking are those of the whole call.

        Raises:
            UserError: as `search` does, of any of them; or a budget of time is given, which is that of one search.
        """
        options = options or SearchOptions()
        options.check_batch()
        return drive_many([self._asking(query, options, alone=False) for query in queries], self.scorers)

    def asking(self, query: str, options: SearchOptions | None = None) -> Asking[Answer]:
        """One search as a generator that asks for scores: who drives it says how they are computed.

        Each `Ask` is to be answered, by `send`, with the `[n]` logits that `scorers[ask.stage]` gives its pairs. The
        first stage searches in the first `next`; any thread may drive it, one at a time, and drop it at any point. Time
        runs from this call on.

        Raises:
            UserError: at once, as `search` does, or if it asks for more than `deepest`; but of fields that no document
                has, in the first `next`.
        """
        return self._asking(query, options or SearchOptions(), alone=True)

    @property
    def deepest(self) -> int | None:
        """How deep a search may look: no deeper than a hybrid fuses, or its scores are others; none for any depth."""
        return self.first_stage.depth if isinstance(self.first_stage, Hybrid) else None

    def _asking(self, query: str, options: SearchOptions, *, alone: bool) -> Asking[Answer]:
        check_text(query)
        options.check()
        if options.depth is not None and self.deepest is not None and options.depth > self.deepest:
            raise UserError(
                f"depth is {options.depth}, but the hybrid was made to fuse {self.deepest} documents of each "
                f"retriever, and of more its scores would be others: ask for {self.deepest} at most"
            )
        firststage.check_query(self.first_stage, query)
        return searching(self, query, options, Watch(self.clock), alone=alone)

    def rank(self, queries: Mapping[str, str], *, depth: int | None = None, label: str | None = None) -> Runs:
        """Search many queries (text by id): the candidates of each in first-stage, reranked and fused order.

        `depth` stands in for the pipeline's own.
        """
        depths = self.depths_for(depth)
        first = search_run(self.first_stage, self.documents.ids, queries, depths[0])
        return self._read(first, queries, depths, label).runs(first, self.weight)

    def read(self, first: Run, queries: Mapping[str, str], *, label: str | None = None) -> Cascaded:
        """What the last reranker reads of lists that the first stage made, and its scores: choices are made on these.

        Where there is one reranker, it reads them whole.
        """
        depths = (*self.depths[:-1], self.depth if self.cascade else WHOLE)
        return self._read(first, queries, depths, label)

    def rerank(self, first: Run, queries: Mapping[str, str], *, label: str | None = None) -> Runs:
        """Rerank and fuse lists that the first stage made, whole where there is one reranker."""
        return self.read(first, queries, label=label).runs(first, self.weight)

    def _read(self, first: Run, queries: Mapping[str, str], depths: Sequence[int], label: str | None) -> Cascaded:
        asking = reranking(first, queries, self.documents, len(depths), lambda stage: depths[stage])
        return drive(asking, self.scorers, label=label)

    def judged(self, scores: npt.NDArray[np.float32]) -> tuple[float | None, bool]:
        """The confidence that a list holds a relevant document, and whether it is enough.

        Args:
            scores: `[2, candidates]` of the last reranker and of the first stage.
        """
        if self.answerability is None:
            return None, True
        return self.answerability.confidence(scores), self.answerability.answerable(scores)
