"""The lists that exports are compared on, and the pairs that eight bits are calibrated on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from secondstage.collection import Collection, Qrels
from secondstage.errors import UserError
from secondstage.firststage import answered, search_run
from secondstage.run import Run
from secondstage.splits import answerable, choose_answerable, choose_queries

from ..pipeline import Pipeline

Pair = tuple[str, str]
# Candidates of a query that calibrate: the best, one of the middle, the last, as a search meets all of them.
SPOTS = 3
CALIBRATING_QUERIES = 100
SEED = 13
# Characters of a document's first sentence that stand in for a query.
LONGEST_QUERY = 200


class Lists(NamedTuple):
    """Ranked lists.

    Attributes:
        basis: "dev", "test" or "documents".
        first: the candidates of each query in the first stage's order.
        pairs: (query text, document text), in the order of `first.pairs()`.
        qrels: their judgements; empty where there are none.
        queries: the texts by query id.
        depth: candidates of each at most.
    """

    basis: str
    first: Run
    pairs: list[Pair]
    qrels: Qrels
    queries: Mapping[str, str]
    depth: int


def lists_of(pipeline: Pipeline, collection: Collection | None, count: int, depth: int) -> Lists:
    """Up to `count` lists of dev queries, else of test queries; without either, of the bundle's own documents.

    Args:
        pipeline: the bundle's.
        collection: its own; none if there is none.
        count: of lists at most.
        depth: candidates of each.

    Raises:
        UserError: the collection's judgements name no document of the bundle, so it is another one's.
    """
    for split in ("dev", "test") if collection else ():
        qrels = choose_answerable(collection.qrels.get(split, {}), count, SEED)  # type: ignore[union-attr]
        if not qrels:
            continue
        if not any(doc_id in pipeline.documents for judged in qrels.values() for doc_id in judged):
            raise UserError(
                f"the collection {collection.name!r} judges no document of this bundle: "  # type: ignore[union-attr]
                "name the bundle's own with --collection"
            )
        queries = {query_id: collection.queries[query_id] for query_id in qrels}  # type: ignore[union-attr]
        return _searched(pipeline, split, queries, qrels, depth)
    return _searched(pipeline, "documents", _own_queries(pipeline, count, start=0), {}, depth)


def calibration_pairs(pipeline: Pipeline, collection: Collection | None, measured: Lists) -> list[Pair]:
    """Pairs as they are met in serving, of queries that nothing is measured on if there are others.

    Of train, else dev, else of the bundle's own documents, else those that are measured on.
    """
    queries: dict[str, str] = {}
    if collection:
        split = answerable(collection.qrels.get("train", {})) or answerable(collection.qrels.get("dev", {}))
        free = [query_id for query_id in split if query_id not in measured.queries] or list(split)
        chosen = choose_queries(free, CALIBRATING_QUERIES, SEED)
        queries = {query_id: collection.queries[query_id] for query_id in chosen}
    queries = queries or _own_queries(pipeline, CALIBRATING_QUERIES, start=1)
    if not answered(pipeline.first_stage, list(queries.values())):  # a run has lists of its own queries alone
        queries = dict(measured.queries)
    lists = _searched(pipeline, "", queries, {}, measured.depth)
    found, start = [], 0
    for ranking in lists.first.values():
        length = len(ranking.doc_ids)
        spots = {0, length // 2, length - 1} if length else set()
        found += [lists.pairs[start + spot] for spot in sorted(spots)[:SPOTS]]
        start += length
    return found


def _searched(pipeline: Pipeline, basis: str, queries: Mapping[str, str], qrels: Qrels, depth: int) -> Lists:
    known = set(answered(pipeline.first_stage, list(queries.values())))
    queries = {query_id: text for query_id, text in queries.items() if text in known}
    if not queries:
        raise UserError(
            "the first stage answers only the queries of a run, and none of them is here: name the collection of the "
            "bundle with --collection"
        )
    first = search_run(pipeline.first_stage, pipeline.documents.ids, queries, depth)
    texts = [pipeline.documents.by_id(doc_id).content for _, doc_id in first.pairs()]
    pairs = [(queries[query_id], text) for (query_id, _), text in zip(first.pairs(), texts, strict=True)]
    judged = {query_id: qrels[query_id] for query_id in queries if query_id in qrels}
    return Lists(basis, first, pairs, judged, queries, depth)


def _own_queries(pipeline: Pipeline, count: int, *, start: int) -> dict[str, str]:
    """Titles of documents, or first sentences where there is none, spread evenly over the corpus.

    `start` moves every pick by so many documents, so that two calls share few.
    """
    documents = pipeline.documents
    step = max(1, len(documents) // count)
    queries = {}
    for row in range(min(start, len(documents) - 1), len(documents), step):
        document = documents[row]
        text = document.title.strip() or re.split(r"(?<=[.!?])\s|\n", document.text.strip())[0][:LONGEST_QUERY]
        if text:
            queries[document.doc_id] = text
    return dict(list(queries.items())[:count])
