"""The bundle: what is copied into it, and how its weight is chosen."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from secondstage.collection import Collection
from secondstage.config import ServeConfig
from secondstage.files import folder_digests, read_json, read_manifest
from secondstage.reranker import Reranker
from secondstage.run import read_trec
from secondstage.serve import make_bundle
from secondstage.serve.fuse import WEIGHTS, choose_weight


def bundle(run_folder: Path, folder: Path, mined: Path | None = None, **settings: Any) -> dict[str, Any]:
    """Make a bundle from the stages of a run."""
    folder.mkdir()
    return make_bundle(
        Collection.load(run_folder / "collection"),
        run_folder / "first_stage",
        mined or run_folder / "mine",
        run_folder / "train",
        ServeConfig(precision="fp32", **settings),
        folder,
    )


def test_index_reranker_and_documents_are_copied(run_folder: Path) -> None:
    def digests(folder: Path) -> dict[str, str]:
        return {name: digest for name, digest in folder_digests(folder).items() if "manifest" not in name}

    found = run_folder / "bundle"
    assert digests(found / "first_stage") == digests(run_folder / "first_stage")
    assert digests(found / "reranker") == digests(run_folder / "train" / "reranker")
    assert digests(found)["documents.arrow"] == digests(run_folder / "collection")["documents.arrow"]
    assert {path.name for path in found.iterdir()} == {
        "first_stage",
        "reranker",
        "documents.arrow",
        "pipeline.json",
        "manifest.json",
    }
    assert not (found / "first_stage" / "manifest.json").exists()


def test_the_manifest_covers_every_file_and_says_where_the_weight_is_from(run_folder: Path) -> None:
    manifest = read_manifest(run_folder / "bundle", "bundle", verify=True)
    assert manifest["files"] == folder_digests(run_folder / "bundle")
    assert manifest["documents"] == 64
    assert manifest["fusion"]["chosen_on"] == "dev"
    assert manifest["fusion"]["queries"] == 16
    assert list(manifest["fusion"]["curve"]) == [f"{weight:.2f}" for weight in WEIGHTS]
    assert read_json(run_folder / "bundle" / "pipeline.json")["weight"] == manifest["fusion"]["weight"]


@pytest.mark.parametrize("depth", [3, 20])
def test_the_weight_is_the_best_on_dev_at_the_pipelines_depth(run_folder: Path, tmp_path: Path, depth: int) -> None:
    found = bundle(run_folder, tmp_path / "bundle", depth=depth)["fusion"]
    collection = Collection.load(run_folder / "collection")
    first = read_trec(run_folder / "mine" / "dev.trec").top(depth)
    reranker = Reranker.load(run_folder / "train" / "reranker", precision="fp32")
    reranked = reranker.rerank(first, collection.queries, collection.documents)
    choice = choose_weight(first, reranked, collection.split("dev"))
    assert found["weight"] == choice.weight
    assert list(found["curve"].values()) == pytest.approx(list(choice.curve.values()))
    settings = read_json(tmp_path / "bundle" / "pipeline.json")
    assert (settings["weight"], settings["serve"]["depth"]) == (choice.weight, depth)


@pytest.mark.parametrize("weight", [0.0, 0.35, 1.0])
def test_a_configured_weight_stands(run_folder: Path, tmp_path: Path, weight: float) -> None:
    found = bundle(run_folder, tmp_path / "bundle", weight=weight)
    assert found["fusion"] == {"weight": weight, "chosen_on": "the configuration"}
    assert read_json(tmp_path / "bundle" / "pipeline.json")["weight"] == weight


def test_without_dev_lists_both_stages_count_the_same(run_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run_folder / "mine", tmp_path / "mine")
    (tmp_path / "mine" / "dev.trec").write_text("")
    found = bundle(run_folder, tmp_path / "bundle", tmp_path / "mine")
    assert found["fusion"] == {"weight": 0.5, "chosen_on": "nothing: there is no dev split"}
