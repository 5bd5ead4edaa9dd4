"""The scores of a bundle when it was made."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from secondstage.files import read_json, read_manifest
from secondstage.run import Ranking, Run
from secondstage.serve import Pipeline
from secondstage.serve.release import Release, describe_release, quantiles, read_release, write_release


def ranking(scores: list[float]) -> Ranking:
    ids = tuple(f"d{i}" for i in range(len(scores)))
    return Ranking(ids, np.array(scores, np.float32), ("bm25",) * len(scores))


def test_shorter_lists_are_left_out() -> None:
    run = Run("reranked", {"a": ranking([3, 1]), "b": ranking([9]), "c": ranking([2, -1]), "d": ranking([])})
    assert describe_release(run) == Release(2, 2, (2.0, 3.0), (-1.0, 1.0, 2.0, 3.0))
    assert describe_release(Run("reranked", {"d": ranking([])})) is None
    assert describe_release(Run("reranked", {})) is None


def test_a_large_sample_is_kept_as_quantiles() -> None:
    found = quantiles(np.arange(5001.0)[::-1])
    assert len(found) == 1000
    assert (found[0], found[-1]) == (0, 5000)
    assert np.diff(found) == pytest.approx(5000 / 999, abs=1.1e-5)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    release = Release(2, 2, (2.0, 3.0), (-1.0, 1.0, 2.0, 3.0))
    write_release(tmp_path, release)
    assert read_release(tmp_path) == release
    assert read_release(tmp_path / "nothing") is None
    (tmp_path / "release.json").write_text(json.dumps({"top": []}))
    assert read_release(tmp_path) is None


def test_a_bundle_knows_its_scores_on_dev(run_folder: Path) -> None:
    """They are those that the pipeline gives the same queries."""
    from secondstage.collection import Collection

    bundle = run_folder / "bundle"
    release = read_release(bundle)
    assert release is not None
    assert (release.depth, release.queries, len(release.candidates)) == (20, 16, 320)
    assert "release.json" in read_manifest(bundle, "bundle", verify=True)["files"]
    collection, pipeline = Collection.load(run_folder / "collection"), Pipeline.load(bundle)
    assert release.depth == pipeline.depth == read_json(bundle / "pipeline.json")["depth"]
    scores = [pipeline.answer(collection.queries[query_id]).trace.scores for query_id in collection.qrels["dev"]]
    assert release.top == pytest.approx(sorted(map(max, scores)), abs=1e-4)
    assert release.candidates == pytest.approx(sorted(chain(*scores)), abs=1e-4)
