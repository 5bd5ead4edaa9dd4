"""The bundle: everything a search needs in one folder, the fusion weight chosen on dev."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from pathlib import Path
from typing import Any

from secondstage.collection import Collection
from secondstage.config import ServeConfig
from secondstage.files import write_json
from secondstage.progress import say
from secondstage.reranker import Reranker
from secondstage.run import read_trec

from .fuse import MEASURE, choose_weight

# Where nothing can be measured, both stages count the same.
WEIGHT_WITHOUT_DEV = 0.5


def make_bundle(
    collection: Collection, first_stage: Path, mined: Path, trained: Path, config: ServeConfig, folder: Path
) -> dict[str, Any]:
    """Copy index, documents and reranker into `folder`, and choose the fusion weight.

    Args:
        collection: whose documents are searched.
        first_stage: its folder.
        mined: the folder with the dev lists, `dev.trec`.
        trained: the folder with the reranker.
        config: depth and weight.
        folder: existing and empty.

    Returns:
        For the manifest: the weight, and the dev values behind it.
    """
    shutil.copytree(first_stage, folder / "first_stage", ignore=shutil.ignore_patterns("manifest.json"))
    shutil.copytree(trained / "reranker", folder / "reranker")
    shutil.copy(collection.folder / "documents.arrow", folder / "documents.arrow")
    fusion = _fusion(collection, mined, folder, config)
    write_json(folder / "pipeline.json", {"weight": fusion["weight"], "serve": config.model_dump(mode="json")})
    return {"fusion": fusion, "documents": len(collection.documents), "versions": versions()}


def versions() -> dict[str, str]:
    """The Python and library versions that made a bundle."""
    names = ("bm25s", "faiss-cpu", "sentence-transformers", "tokenizers", "torch", "transformers")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def _fusion(collection: Collection, mined: Path, folder: Path, config: ServeConfig) -> dict[str, Any]:
    if config.weight is not None:
        return {"weight": config.weight, "chosen_on": "the configuration"}
    first = read_trec(mined / "dev.trec").top(config.depth)
    if not len(first):
        return {"weight": WEIGHT_WITHOUT_DEV, "chosen_on": "nothing: there is no dev split"}
    reranker = Reranker.load(folder / "reranker", batch_tokens=config.batch_tokens, precision=config.precision)
    qrels = {query_id: collection.qrels["dev"][query_id] for query_id in first}
    reranked = reranker.rerank(first, collection.queries, collection.documents, label="fusion on dev")
    choice = choose_weight(first, reranked, qrels)
    say(
        f"  fusion weight {choice.weight:.2f}: dev {MEASURE} {choice.value:.4f} "
        f"(first stage {choice.curve[0.0]:.4f}, reranked {choice.curve[1.0]:.4f}, {len(first)} queries)"
    )
    if choice.gain <= choice.error:
        say(
            f"  the best weight gains {choice.gain:+.4f} on dev, no more than its standard error {choice.error:.4f}: "
            "the pipeline keeps the first stage's order (serve.weight sets another)"
        )
    return {
        "weight": choice.weight,
        "chosen_on": "dev",
        "queries": len(first),
        "gain": choice.gain,
        "standard_error": choice.error,
        "curve": {f"{weight:.2f}": value for weight, value in choice.curve.items()},
    }
