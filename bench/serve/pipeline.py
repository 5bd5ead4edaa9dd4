"""Searches end to end, by a real server process: alone, with several clients, and with as many as it can bear."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from secondstage.firststage import search_run
from secondstage.progress import say
from secondstage.serve import Pipeline

from .ground import Options
from .load import Load, ask_all
from .served import Served
from .summary import latency, within

# Searches before the clock runs: memory and threads are set up.
WARM = 16
# Turns of the offline rate: its median counts.
REPEATS = 3


def measure_pipeline(
    options: Options, *, backend: str, clients: int, saturating: int, queries: int, seconds: float
) -> dict[str, Any]:
    """Latency of `/search` alone and with `clients`; throughput with `saturating` clients, as a share of offline.

    A budget of half the usual time is given as well: how many searches keep it, all in all as the client sees it.

    The offline rate is that of the same engine on the same pairs, all known before, without a first stage or HTTP. What
    the batcher is worth is told against two servers without one: see `unbatched.py`.
    """
    options.engine(backend)
    texts = options.queries[:queries]
    bodies = [{"query": text, "top_n": 10, "depth": options.depth} for text in texts]
    offline, pairs = offline_rate(options, backend, texts)
    say(f"  offline: {offline:.0f} pairs/s")
    found: dict[str, Any] = {"backend": backend, "candidates": options.depth, "offline_pairs_per_s": round(offline, 1)}
    with _served(options, backend) as served:
        ask_all(served.port, "/search", bodies, clients=1, seconds=0, least=WARM)
        alone = ask_all(served.port, "/search", bodies, clients=1, seconds=seconds, least=len(bodies))
        several = ask_all(served.port, "/search", bodies, clients=clients, seconds=seconds, least=len(bodies))
        budgets = {}
        for number, load in {1: alone, clients: several}.items():
            budget = round(latency(load.seconds)["p50_ms"] / 2)
            hurried = [{**body, "latency_ms": budget} for body in bodies]
            asked = ask_all(served.port, "/search", hurried, clients=number, seconds=seconds, least=len(bodies))
            budgets[str(number)] = {
                "latency_ms": budget,
                "kept": within(asked.seconds, budget),
                **latency(asked.seconds),
            }
        full = ask_all(served.port, "/search", bodies, clients=saturating, seconds=seconds, least=2 * saturating)
    found |= {**latency(alone.seconds), "clients": {"clients": clients, **_figures(several, pairs)}}
    saturated = _figures(full, pairs)
    found |= {"budgets": budgets, "saturated": {"clients": saturating, **saturated}}
    found |= {"saturation": round(saturated["pairs_per_s"] / offline, 3)}
    for name, copies in {"one_by_one": 1, "side_by_side": clients}.items():
        with _served(options, backend, "bench.serve.unbatched", str(copies)) as served:
            ask_all(served.port, "/search", bodies, clients=clients, seconds=0, least=WARM)
            load = ask_all(served.port, "/search", bodies, clients=clients, seconds=seconds, least=len(bodies))
        found[name] = {"clients": clients, **_figures(load, pairs)}
        found[f"p95_against_{name}"] = round(found["clients"]["p95_ms"] / found[name]["p95_ms"], 3)
    return {"pipeline": found}


def offline_rate(options: Options, backend: str, texts: Sequence[str]) -> tuple[float, float]:
    """Pairs a second that the engine scores in this process, and how many pairs a search has on average."""
    pipeline = Pipeline.load(options.bundle, backend)
    queries = {str(i): text for i, text in enumerate(texts)}
    run = search_run(pipeline.first_stage, pipeline.documents.ids, queries, options.depth)
    pairs = [
        (queries[query_id], content)
        for query_id, ranking in run.items()
        for content in pipeline.documents.contents(ranking.doc_ids)
    ]
    pipeline.reranker.score(pairs[: options.depth])
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        pipeline.reranker.score(pairs)
        taken.append(time.perf_counter() - start)
    return len(pairs) / statistics.median(taken), len(pairs) / len(texts)


def _served(options: Options, backend: str, *command: str) -> Served:
    more = {"command": command} if command else {}
    return Served(options.bundle, [f"backend={backend}"], options.output / "server.log", **more)


def _figures(load: Load, pairs: float) -> dict[str, Any]:
    """Latency, throughput in searches and in pairs, and how many were refused first."""
    return {
        **latency(load.seconds),
        "searches_per_s": round(load.per_second, 2),
        "pairs_per_s": round(load.per_second * pairs, 1),
        "refused": load.statuses[429],
    }
