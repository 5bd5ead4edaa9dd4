"""The same score for a pair through the library, the server and every engine, alone or in any batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from secondstage.firststage import search_run
from secondstage.pairmodel import PairModel
from secondstage.progress import say
from secondstage.run import Scores
from secondstage.serve import Pipeline

from .connection import Connection
from .conventions import CONVENTIONS, PREFIX
from .ground import Options
from .served import Served
from .summary import largest_difference, ranks_kept

# Pairs that are scored one by one, and in batches that are drawn anew.
ALONE, DRAWS = 64, 3
# How far fp32 may be off; and how far apart neighbours in a ranking are whose order int8 should keep.
FP32 = 1e-3
APART = (1e-3, 0.05, 0.1, 0.2, 0.5)

Pairs = list[tuple[str, str]]


def measure_parity(options: Options, *, engines: Sequence[str], queries: int) -> dict[str, Any]:
    """Every engine against torch in single precision, on the candidates of some test queries."""
    reference = Pipeline.load(options.bundle, "torch")
    lists = _lists(reference, options, queries)
    expected = {query_id: _reference(options.bundle).score(pairs) for query_id, pairs in lists.items()}
    found: dict[str, Any] = {}
    for name in engines:
        say(f"parity: {name} …")
        options.engine(name)
        model = Pipeline.load(options.bundle, name).reranker
        scores = {query_id: model.score(pairs) for query_id, pairs in lists.items()}
        found[name] = {
            "against_fp32": max(largest_difference(expected[query_id], scores[query_id]) for query_id in lists),
            "alone_or_in_a_batch": in_any_batch(model, [pair for pairs in lists.values() for pair in pairs]),
            "ranks_kept": {str(apart): round(ranks_kept(expected, scores, apart), 4) for apart in APART},
            "server": through_server(options, name, lists, scores),
        }
    return {"parity": found}


def in_any_batch(model: PairModel, pairs: Pairs) -> float:
    """The largest difference between a pair's score alone and its score in batches that were drawn at random."""
    draw = np.random.default_rng(13)
    chosen = draw.choice(len(pairs), min(ALONE, len(pairs)), replace=False)
    alone = np.concatenate([model.score([pairs[i]]) for i in chosen])
    worst = 0.0
    for _ in range(DRAWS):
        others = draw.permutation(len(pairs))[: 4 * ALONE]
        mixed = np.unique(np.concatenate([chosen, others]))
        draw.shuffle(mixed)
        scores = dict(zip(mixed.tolist(), model.score([pairs[i] for i in mixed]).tolist(), strict=True))
        worst = max(worst, largest_difference(alone, np.array([scores[int(i)] for i in chosen], np.float32)))
    return worst


def through_server(
    options: Options, engine: str, lists: dict[str, Pairs], scores: dict[str, Scores]
) -> dict[str, float]:
    """By convention, how far the scores of a server are off those of the library, with the same engine."""

    async def ask(port: int) -> dict[str, float]:
        worst = {convention.name: 0.0 for convention in CONVENTIONS}
        connection = Connection(port)
        for query_id, pairs in lists.items():
            documents = [document for _, document in pairs]
            for convention in CONVENTIONS:
                reply = await connection.ask("POST", convention.path, convention.encode(pairs[0][0], documents))
                given = convention.read(reply.json())
                expected = scores[query_id] if convention.logits else 1 / (1 + np.exp(-scores[query_id]))
                values = np.array([given[i] for i in range(len(pairs))], np.float32)
                worst[convention.name] = max(worst[convention.name], largest_difference(expected, values))
        connection.close()
        return worst

    settings = [f"backend={engine}", f"prefix={PREFIX}"]
    with Served(options.bundle, settings, options.output / "server.log") as served:
        return asyncio.run(ask(served.port))


def _lists(pipeline: Pipeline, options: Options, count: int) -> dict[str, Pairs]:
    """The pairs of some test queries, by query."""
    queries = {str(i): text for i, text in enumerate(options.queries[:count])}
    run = search_run(pipeline.first_stage, pipeline.documents.ids, queries, options.depth)
    return {
        query_id: [(queries[query_id], content) for content in pipeline.documents.contents(ranking.doc_ids)]
        for query_id, ranking in run.items()
        if len(ranking.doc_ids)
    }


def _reference(bundle: Path) -> PairModel:
    """The reranker in single precision, whatever the bundle says."""
    from secondstage.rerankers import load_reranker

    return load_reranker(bundle / "reranker", batch_tokens=8192, precision="fp32")
