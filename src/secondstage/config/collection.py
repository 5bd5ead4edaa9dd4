"""What is searched, for whom."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, model_validator

from .base import Section, Share


class CollectionConfig(Section):
    """What to search, for whom: documents, queries and qrels."""

    source: str | None = None
    """A BEIR folder, `pydocs` (the built-in collection), or `hf:<dataset id>`."""
    documents: str | None = None
    """Instead of `source`: a file of documents (BEIR JSON lines or TREC SGML), plain or gzipped."""
    queries: str | None = None
    """Instead of `source`: a file of queries (BEIR JSON lines, TREC topics, or id-tab-text); none if there are none."""
    qrels: dict[str, str] = Field(default_factory=dict)
    """Instead of `source`: a file of qrels (TREC or BEIR TSV) for each split."""
    dev_share: Share = 0.1
    """Cut from train where the source has no dev split."""
    test_share: Share = 0.0
    """Cut from train, before dev, where the source has no test split."""
    drop_invalid: bool = False
    """Leave faulty records out, and count them, instead of refusing the collection."""

    @model_validator(mode="after")
    def _one_origin(self) -> CollectionConfig:
        if fault := origin_fault(self.model_dump()):
            raise ValueError(fault)
        return self


def origin_fault(collection: Mapping[str, object]) -> str:
    """What is wrong with where a collection is to be read from; empty if nothing is."""
    source, documents, queries, qrels = (collection.get(key) for key in ("source", "documents", "queries", "qrels"))
    if source and not (documents or queries or qrels):
        return ""
    if not source and documents and (queries or not qrels):
        return ""
    return "give either source, or documents, queries and qrels"
