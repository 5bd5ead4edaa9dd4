"""What a run leaves beside a bundle: its collection, and the scores of its reranker."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from secondstage.backends import AUTO, TORCH
from secondstage.backends.record import ENGINES_FOLDER
from secondstage.collection import Collection, beside
from secondstage.errors import UserError
from secondstage.files import read_json, read_manifest
from secondstage.plan import claimed
from secondstage.progress import say
from secondstage.reranker import keep_scores
from secondstage.scorecache import SCORES

from ..opening import KIND, SETTINGS, serve_config
from ..pipeline import Pipeline


def collection_beside(paths: Sequence[Path], given: str | None) -> Collection:
    """The collection in the folder `given`, or else the one that lies beside the first bundle that has one.

    What is given is a stored collection, or a BEIR folder, which is read anew.

    Raises:
        UserError: there is none, it is faulty, or a folder is no bundle.
    """
    if given is not None:
        return Collection.open(Path(given).expanduser())
    if found := next(filter(None, map(beside, paths)), None):
        return Collection.load(found)
    for path in [path for path in paths if path.is_dir()]:
        read_manifest(path, KIND)  # a wrong path is told before what it lacks
    raise UserError(f"no collection lies beside {paths[0]}: name its folder with --collection")


def load_bundle(bundle: Path) -> Pipeline:
    """A bundle as it will be served; in torch, with a line that says so, as long as it lacks the engine it names.

    Engines are exported from a bundle that is there, and it is proven before that.
    """
    settings = bundle / SETTINGS
    backend = serve_config(read_json(settings)).backend if settings.is_file() else AUTO
    if backend in (AUTO, TORCH) or (bundle / ENGINES_FOLDER / backend).is_dir():
        return Pipeline.load(bundle)
    say(
        f"  {bundle} has no engine {backend} yet, which serve.backend names: torch computes its scores. Make it with "
        f"`secondstage export {bundle} --to {backend}`"
    )
    return Pipeline.load(bundle, TORCH)


@contextmanager
def opened(bundle: Path) -> Iterator[Pipeline]:
    """The pipeline of a bundle, with the scores that a run left beside it; they are locked meanwhile.

    Where they cannot be written to, scores are computed anew: the run is someone else's.

    Raises:
        UserError: it is no bundle, or a run is writing these scores.
    """
    bundle = bundle.absolute()  # the parent of "." is itself
    pipeline, scores = load_bundle(bundle), bundle.parent / SCORES
    if not scores.is_dir():
        yield pipeline
        return
    if not all(os.access(folder, os.W_OK) for folder in (scores, bundle.parent)):
        say(f"  {bundle.parent} cannot be written to: scores are computed anew")
        yield pipeline
        return
    with claimed(bundle.parent, ()):
        yield pipeline.with_scorer(keep_scores(pipeline.reranker, scores))
