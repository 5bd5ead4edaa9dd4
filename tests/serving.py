"""A server without a bundle: its model counts the words of the query in a document, its corpus has three of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import uvicorn
from fastapi.testclient import TestClient

from secondstage.collection import Document
from secondstage.config import ServerConfig
from secondstage.errors import UserError
from secondstage.pairmodel import token_budget
from secondstage.run import Scores
from secondstage.serve.answer import Answer, Piece, Result
from secondstage.serve.cascade import Ask
from secondstage.serve.options import SearchOptions
from secondstage.serve.server.app import make_app
from secondstage.serve.server.keys import Keys
from secondstage.serve.server.run import listen, url_of
from secondstage.serve.server.service import Service
from secondstage.serve.trace import Trace

BROKEN = "nan"


class Words:
    """A tokenizer whose tokens are words."""

    is_fast = True

    def __call__(self, texts: list[str], *, max_length: int, **settings: Any) -> Mapping[str, Any]:
        offsets = []
        for text in texts:
            ends = [i for i in range(1, len(text) + 1) if i == len(text) or text[i].isspace()]
            offsets.append([(0, end) for end in ends[:max_length]])
        return {"offset_mapping": offsets}


class CountingModel:
    """A pair's tokens are its words, and its logit is how often the document has the words of the query, minus one.

    Attributes:
        seconds: that a batch takes.
        scored: the pairs in each batch.
    """

    engine, threads, overhead, tokenizer = "torch", 1, 3, Words()

    def __init__(
        self, *, max_length: int = 64, seconds: float = 0.0, calibration: Any = None, broken: str = BROKEN
    ) -> None:
        self.max_length, self.batch_tokens, self.calibration = max_length, 256, calibration
        self.seconds, self.broken = seconds, broken
        self.scored: list[int] = []
        self._words: list[tuple[str, list[str]]] = []

    def batches(self, lengths: Sequence[int]) -> Iterable[list[int]]:
        return token_budget(lengths, self.batch_tokens)

    def tokenize(self, pairs: Sequence[tuple[str, str]]) -> Mapping[str, list[list[int]]]:
        rows, numbers = [], []
        for query, document in pairs:
            words = document.split()[: max(self.max_length - len(query.split()) - 3, 0)]
            rows.append([0] * (len(query.split()) + len(words) + 3))
            numbers.append([len(self._words)])
            self._words.append((query, words))
        return {"number": numbers, "input_ids": rows}

    def collate(self, rows: Mapping[str, Sequence[Sequence[int]]], places: Sequence[int]) -> Mapping[str, Any]:
        return {"numbers": [rows["number"][i][0] for i in places]}

    def logits(self, features: Mapping[str, Any]) -> Scores:
        time.sleep(self.seconds)
        self.scored.append(len(features["numbers"]))
        found = []
        for number in features["numbers"]:
            query, words = self._words[number]
            found.append(np.nan if self.broken in words else sum(words.count(word) for word in query.split()) - 1.0)
        return np.array(found, np.float32)

    def probabilities(self, scores: Scores) -> list[float]:
        return [0.5] * len(scores)


class ThreeDocuments:
    """What the pipeline of these tests searches."""

    rows = (Document("a", "Bread", "bake bread"), Document("b", "", "bread bread"), Document("c", "River", "water"))

    def __len__(self) -> int:
        return len(self.rows)

    def by_id(self, doc_id: str) -> Document:
        return next(row for row in self.rows if row.doc_id == doc_id)


class ThreePipeline:
    """Finds all three documents in their order, and reranks them by one model, or by several of a cascade."""

    verdict, falls_back, depth, weight, fields = None, False, 3, 1.0, SimpleNamespace(names=["year"])
    first_stage_seconds, deepest = 0.0, None

    def __init__(self, *models: CountingModel) -> None:
        self.cascade = tuple(SimpleNamespace(scorer=model, depth=3) for model in models[:-1])
        self.reranker, self.rerankers, self.documents = models[-1], models, ThreeDocuments()
        self.depths = (3,) * len(models)
        self.searched = 0

    def asking(self, query: str, options: SearchOptions) -> Generator[Ask, Scores, Answer]:
        if options.where and set(options.where) != {"year"}:
            raise UserError("where: documents have only the field year")
        self.searched += 1
        time.sleep(self.first_stage_seconds)
        rows = self.documents.rows
        scores = np.zeros(0, np.float32)
        for stage in range(len(self.cascade) + 1):
            scores = yield Ask(stage, [(query, row.content) for row in rows])
        order = np.argsort(-scores, kind="stable")
        results = [
            Result(
                rank, rows[i].doc_id, rows[i].title, rows[i].text, 1 / rank, float(scores[i]), int(i) + 1, 1.0, "bm25"
            )
            for rank, i in enumerate(order[: options.top_n], 1)
        ]
        ids = [row.doc_id for row in rows]
        trace = Trace(
            3,
            {"first_stage": 1.0, "rerank": 2.0},
            ids,
            [ids[i] for i in order],
            ids,
            scores.tolist(),
            False,
            [3.0, 2.0, 1.0],
        )
        context = [Piece("a", "bake bread")] if options.pack_tokens else None
        return Answer(results, 0.9, True, trace, context)


def make_service(*models: CountingModel, signals: Any = None, keep: Any = None, **settings: Any) -> Service:
    pipeline: Any = ThreePipeline(*(models or (CountingModel(),)))
    given: dict[str, Any] = {"batch_wait_ms": 0.0, **settings}
    return Service(pipeline, ServerConfig(**given), signals, name="tiny", keep=keep)


@contextmanager
def asking(*models: CountingModel, keys: Sequence[str] = (), **settings: Any) -> Iterator[TestClient]:
    """A client of a server that runs in this process until the block ends."""
    service = make_service(*models, **settings)
    with TestClient(make_app(service, keys=Keys(list(keys))), raise_server_exceptions=False) as client:
        yield client


@contextmanager
def live(app: Any) -> Iterator[str]:
    """The address of a server that answers over TCP, in a thread of this process, until the block ends."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on"))
    thread = threading.Thread(target=server.run, args=([listener],))
    with listener:
        thread.start()
        while not server.started:
            time.sleep(0.005)
        yield url_of(listener, "127.0.0.1")
        server.should_exit = True
        thread.join()
