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
from secondstage.firststage import search_run
from secondstage.leakage import ENOUGH, Met, met_in_training, spare
from secondstage.pairmodel import CONTRACT
from secondstage.progress import say
from secondstage.reranker import keep_scores
from secondstage.rerankers import load_reranker
from secondstage.splits import answerable, choose_answerable

from .barren import find_barren
from .cascade import Stage
from .choices import Choices, choose_on_dev, depths_to_time, reranked_head, without_dev
from .latency import time_searches
from .opening import RERANKER, SETTINGS, open_reranker
from .pipeline import Pipeline
from .release import describe_release, write_release

# Dev queries that are timed, where a latency budget decides on the depth.
TIMED = 20


def make_bundle(
    collection: Collection,
    first_stage: Path,
    trained: Path,
    config: ServeConfig,
    folder: Path,
    *,
    seed: int,
    scores: Path,
    dev_queries: int = 300,
    saw_train: bool = True,
    mined: Path | None = None,
    warmed: Path | None = None,
) -> dict[str, Any]:
    """Copy index, documents and reranker into `folder`, and choose depth, fusion weight, calibration and threshold.

    Args:
        collection: whose documents are searched.
        first_stage: its folder.
        trained: the folder with the reranker.
        config: what is fixed.
        folder: existing and empty.
        seed: of the choice of dev queries, and of the folds of the calibration.
        scores: the folder where the reranker's scores are kept, so that none is computed twice.
        dev_queries: choices are made on so many at most.
        saw_train: whether the reranker was trained: what training met and dev share gives dev away.
        mined: the folder of the mine stage, which says what training met; none takes the train split for it.
        warmed: the lists of the warm-up that training started with; none if it started without one.

    Returns:
        For the manifest: what was chosen, and the dev values behind it.
    """
    shutil.copytree(first_stage, folder / "first_stage")
    (folder / "first_stage" / MANIFEST).unlink(missing_ok=True)  # its own alone: an index may hold files of that name
    shutil.copytree(trained / "reranker", folder / "reranker")
    shutil.copy(collection.folder / "documents.arrow", folder / "documents.arrow")
    stages = _put_cascade(config, folder)
    met = met_in_training(collection, mined, trained=saw_train, warmed=warmed)
    qrels, leakage = _judged(collection, dev_queries, seed, met)
    choices = _choose(collection, qrels, folder, config, seed, scores) if qrels else without_dev(config)
    contract = folder / "reranker" / CONTRACT
    if choices.calibration:
        write_json(contract, read_json(contract) | {"calibration": choices.calibration.to_json()})
    settings = {
        "depth": choices.depth,
        "weight": choices.weight,
        "cascade": stages,
        "answerability": choices.answerability.to_json() if choices.answerability else None,
        "serve": config.model_dump(mode="json"),
    }
    write_json(folder / SETTINGS, settings)
    # A model may bring a calibration from elsewhere: whether one was fitted here, its contract does not tell.
    details = choices.details | {"calibrated": choices.calibration is not None}
    details |= {"leakage": leakage} if qrels else {}
    return {"choices": details, "documents": len(collection.documents), "versions": versions()}


def _put_cascade(config: ServeConfig, folder: Path) -> list[dict[str, Any]]:
    """Copy the rerankers that come before the last one; return where they are and how deep they read."""
    stages = []
    for number, stage in enumerate(config.cascade[:-1], 1):
        name = f"rerankers/{number}"
        model = load_reranker(str(stage.model), max_length=stage.max_length, precision="fp32")
        model.save(folder / name)
        stages.append({"folder": name, "depth": stage.depth})
    return stages


def versions() -> dict[str, str]:
    """The Python and library versions that made a bundle."""
    names = ("bm25s", "faiss-cpu", "sentence-transformers", "tokenizers", "torch", "transformers")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def _choose(
    collection: Collection, qrels: Qrels, folder: Path, config: ServeConfig, seed: int, scores: Path
) -> Choices:
    first_stage = firststage.load(folder / "first_stage")
    reranker = open_reranker(folder / RERANKER, config)
    cascade = [
        Stage(open_reranker(folder / f"rerankers/{number}", config), stage.depth)
        for number, stage in enumerate(config.cascade[:-1], 1)
    ]
    depth = config.cascade[-1].depth if cascade else config.deepest
    pipeline = Pipeline(first_stage, reranker, collection.documents, depth=depth, weight=1.0, cascade=cascade)
    pipeline = pipeline.with_scorer(keep_scores(reranker, scores))
    queries = {query_id: collection.queries[query_id] for query_id in qrels}
    first = search_run(first_stage, collection.documents.ids, queries, config.deepest)
    # Of a cascade, choices are made on what its last reranker reads.
    _, head, reranked = pipeline.read(first, queries, label="choices on dev")
    timed = depths_to_time(config)
    timings = time_searches(pipeline, list(queries.values())[:TIMED], timed) if timed else {}
    barren = find_barren(pipeline, queries, qrels, config.deepest)
    choices = choose_on_dev(head, reranked, qrels, config, timings, seed=seed, barren=barren)
    if release := describe_release(reranked_head(head, reranked, choices.depth)):
        write_release(folder, release)
    return choices


def _judged(collection: Collection, dev_queries: int, seed: int, met: Met) -> tuple[Qrels, dict[str, Any]]:
    """The judgements of the dev queries that choices are made on, and what training gives away of dev."""
    dev = answerable(collection.qrels.get("dev", {}))
    basis = spare(collection.queries, dev, met)
    chosen, counts, free = choose_answerable(basis.qrels, dev_queries, seed), basis.counts, basis.free
    if free < len(dev):
        rest = (
            f"choices are made on {len(chosen)} of the other {free}"
            if basis.enough
            else f"the other {free} are fewer than {ENOUGH}, so choices are made on {len(chosen)} of all, and may "
            "trust the reranker too much"
        )
        say(
            f"  of {len(dev)} dev queries {counts['same_text'] + counts['near_duplicate']} have nearly the text of a "
            f"training query, {counts['document']} share a relevant document: {rest}"
        )
    return chosen, {
        "against": ["train"] if met.qrels else [],
        "queries": len(dev),
        "counts": counts,
        "free": free,
        "chosen_on": "free" if basis.enough else "all",
        "used": len(chosen),
    }
