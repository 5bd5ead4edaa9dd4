"""Queries that the corpus does not answer, made of those that it does: their relevant documents are hidden."""

from __future__ import annotations

from collections.abc import Mapping

from secondstage.collection import Qrels
from secondstage.firststage.without import search_without

from .choices import Barren
from .pipeline import Pipeline


def find_barren(
    pipeline: Pipeline, queries: Mapping[str, str], qrels: Qrels, depth: int, *, label: str | None = None
) -> Barren:
    """Search and rerank each query as if its relevant documents were not there; what nobody judged stays.

    Args:
        pipeline: both stages.
        queries: texts by query id.
        qrels: which documents are relevant.
        depth: candidates per query; of a cascade, those that the last reranker reads are kept.
        label: shows a progress bar under this name.
    """
    relevant = {
        query_id: [doc_id for doc_id, relevance in qrels[query_id].items() if relevance > 0] for query_id in queries
    }
    first = search_without(pipeline.first_stage, pipeline.documents.ids, queries, relevant, depth)
    _, head, reranked = pipeline.read(first, queries, label=label)
    return Barren(head, reranked)
