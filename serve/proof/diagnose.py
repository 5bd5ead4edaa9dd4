"""The command: open a bundle and its collection, and say why queries fail."""

from __future__ import annotations

import json
from pathlib import Path

from secondstage.errors import UserError
from secondstage.files import read_manifest
from secondstage.splits import answerable

from ..opening import KIND
from .beside import collection_beside, opened
from .diagnosis import diagnose
from .failures import as_records, describe


def diagnose_bundle(
    bundle: Path, collection: str | None, split: str, *, cutoff: int = 10, limit: int = 5, as_json: bool = False
) -> str:
    """Why the queries of a split fail, as text.

    The scores that a run left beside the bundle are used.

    Args:
        bundle: the pipeline.
        collection: the folder of a stored collection, or one in BEIR layout; none means the one beside the bundle.
        split: whose queries are asked.
        cutoff: a query fails without a relevant document among so many.
        limit: so many queries of each cause are shown.
        as_json: all failures instead, one JSON record a line.

    Raises:
        UserError: there is no such bundle, collection or split, the split has no relevant document, `cutoff` is less
            than 1, or `limit` is negative.
    """
    if cutoff < 1:
        raise UserError(f"cutoff is {cutoff}, must be at least 1")
    if limit < 0:
        raise UserError(f"limit is {limit}, must be at least 0")
    read_manifest(bundle, KIND)  # a wrong path is told before what it lacks
    found = collection_beside([bundle], collection)
    qrels = answerable(found.split(split))
    if not qrels:
        raise UserError(f"split {split!r} of collection {found.name!r} has no query with a relevant document")
    queries = {query_id: found.queries[query_id] for query_id in qrels}
    with opened(bundle) as pipeline:
        runs = pipeline.rank(queries, label=f"rerank {split}")
        failures = diagnose(
            runs,
            qrels,
            queries,
            pipeline.documents,
            pipeline.reranker,
            weight=pipeline.weight,
            depth=pipeline.depth,
            cutoff=cutoff,
            scorer=pipeline.scorer,
        )
    if as_json:
        records = as_records(failures, queries, pipeline.documents)
        return "\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    return f"{split}: {len(queries)} queries\n" + describe(failures, queries, pipeline.documents, limit)
