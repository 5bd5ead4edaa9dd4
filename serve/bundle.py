"""The bundle: everything a search needs in one folder; what can be chosen is chosen on dev."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from pathlib import Path
from typing import Any

from secondstage import firststage
from secondstage.collection import Collection, Qrels
from secondstage.config import ServeConfig
from secondstage.files import MANIFEST, read_json, write_json
from secondstage.leakage import count, find_leaks
from secondstage.progress import say
from secondstage.reranker import CONTRACT, Reranker, keep_scores
from secondstage.run import read_trec

from .choices import Choices, choose_on_dev, depths_to_time, without_dev
from .latency import time_searches
from .pipeline import Pipeline

# Dev queries that are timed, where a latency budget decides on the depth.
TIMED = 20


def make_bundle(
    collection: Collection,
    first_stage: Path,
    mined: Path,
    trained: Path,
    config: ServeConfig,
    folder: Path,
    *,
    seed: int,
    scores: Path,
) -> dict[str, Any]:
    """Copy index, documents and reranker into `folder`, and choose depth, fusion weight, calibration and threshold.

    Args:
        collection: whose documents are searched.
        first_stage: its folder.
        mined: the folder with the dev lists, `dev.trec`.
        trained: the folder with the reranker.
        config: what is fixed.
        folder: existing and empty.
        seed: of the folds of the calibration.
        scores: the folder where the reranker's scores are kept, so that none is computed twice.

    Returns:
        For the manifest: what was chosen, and the dev values behind it.
    """
    shutil.copytree(first_stage, folder / "first_stage")
    (folder / "first_stage" / MANIFEST).unlink(missing_ok=True)  # its own alone: an index may hold files of that name
    shutil.copytree(trained / "reranker", folder / "reranker")
    shutil.copy(collection.folder / "documents.arrow", folder / "documents.arrow")
    choices = _choose(collection, mined, folder, config, seed, scores)
    contract = folder / "reranker" / CONTRACT
    if choices.calibration:
        write_json(contract, read_json(contract) | {"calibration": choices.calibration.to_json()})
    settings = {
        "depth": choices.depth,
        "weight": choices.weight,
        "answerability": choices.answerability.to_json() if choices.answerability else None,
        "serve": config.model_dump(mode="json"),
    }
    write_json(folder / "pipeline.json", settings)
    return {"choices": choices.details, "documents": len(collection.documents), "versions": versions()}


def versions() -> dict[str, str]:
    """The Python and library versions that made a bundle."""
    names = ("bm25s", "faiss-cpu", "sentence-transformers", "tokenizers", "torch", "transformers")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def _choose(collection: Collection, mined: Path, folder: Path, config: ServeConfig, seed: int, scores: Path) -> Choices:
    first = read_trec(mined / "dev.trec").top(config.deepest)
    if not len(first):
        return without_dev(config)
    reranker = Reranker.load(folder / "reranker", batch_tokens=config.batch_tokens, precision=config.precision)
    pipeline = Pipeline(
        firststage.load(folder / "first_stage"), reranker, collection.documents, depth=config.deepest, weight=1.0
    )
    pipeline = pipeline.with_scorer(keep_scores(reranker, scores))
    queries = {query_id: collection.queries[query_id] for query_id in first}
    reranked = pipeline.rerank(first, queries, label="choices on dev").reranked
    timed = depths_to_time(config)
    timings = time_searches(pipeline, list(queries.values())[:TIMED], timed) if timed else {}
    qrels = {query_id: collection.qrels["dev"][query_id] for query_id in first}
    choices = choose_on_dev(first, reranked, qrels, config, timings, seed=seed)
    return choices._replace(details=choices.details | {"leakage": _leakage(collection, qrels)})


def _leakage(collection: Collection, dev: Qrels) -> dict[str, Any]:
    """What train gives away of the dev queries: choices made on these may trust the reranker too much."""
    counts = count(find_leaks(collection.queries, dev, {"train": collection.qrels.get("train", {})}))
    if counts["any"]:
        say(
            f"  of {len(dev)} dev queries {counts['same_text'] + counts['near_duplicate']} have nearly the text of a "
            f"training query, {counts['document']} share a relevant document: dev may trust the reranker too much"
        )
    return {"against": ["train"], "queries": len(dev), "counts": counts}
