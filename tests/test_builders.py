"""Every kind of first stage, from its config to a proof and a bundle that answers elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, get_args

import pytest

from secondstage.collection import Collection
from secondstage.commands import carry_out_up_to
from secondstage.config import FirstStageConfig
from secondstage.configfile import check_config
from secondstage.errors import UserError
from secondstage.files import read_json
from secondstage.firststage import build, search_run
from secondstage.firststage.builders import KINDS
from secondstage.serve.pipeline import Pipeline


def test_every_kind_of_the_config_is_known() -> None:
    assert tuple(KINDS) == get_args(FirstStageConfig.model_fields["kind"].annotation)


def whole_run(first_stage: dict[str, Any], beir_folder: Path, model: Path, output: Path) -> dict[str, Any]:
    config = {
        "output": str(output),
        "collection": str(beir_folder),
        "first_stage": first_stage,
        "train": {"model": str(model), "steps": 4, "max_length": 32, "batch_tokens": 1024, "precision": "fp32"},
        "serve": {"depth": 10, "precision": "fp32"},
        "evaluate": {"resamples": 100, "latency_queries": 2, "depth_queries": 5},
    }
    carry_out_up_to("evaluate", check_config(config))
    tested: dict[str, Any] = read_json(output / "evaluation" / "metrics.json")["test_sets"]["test"]
    return tested


@pytest.mark.slow
def test_milvus_is_mined_proven_and_deployed(beir_folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    dense = {"model": str(tiny_model)}
    tested = whole_run({"kind": "milvus", "dense": dense}, beir_folder, tiny_model, output)
    assert {"bm25", "dense", "pipeline"} < set(tested["systems"])
    assert tested["systems"]["bm25"]["measures"]["R@10"] == 1
    shutil.move(output / "bundle", tmp_path / "bundle")
    shutil.rmtree(output)
    pipeline = Pipeline.load(tmp_path / "bundle")
    assert {result.retriever for result in pipeline.search("pedal of the piano")} & {"bm25+dense"}
    # It was opened, and is as it was: opening checks every digest.
    assert len(Pipeline.load(tmp_path / "bundle").search("pedal of the piano")) == 10


@pytest.mark.slow
def test_a_run_is_mined_proven_and_deployed(
    collection: Collection, beir_folder: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, file = tmp_path / "out", tmp_path / "lucene.trec"
    bm25 = build(FirstStageConfig(kind="bm25"), collection.documents)
    some = dict(list(collection.queries.items())[:-1])
    search_run(bm25, collection.documents.ids, some, 30, "lucene").write_trec(file)
    first_stage = {"kind": "run", "run": [str(file)]}
    tested = whole_run(first_stage, beir_folder, tiny_model, output)
    assert "the run answers 63 of 64 queries" in capsys.readouterr().err
    assert tested["systems"]["first_stage"]["measures"]["nDCG@10"] > 0.5
    pipeline = Pipeline.load(output / "bundle")
    assert {result.retriever for result in pipeline.search(next(iter(some.values())))} == {"lucene"}
    with pytest.raises(UserError, match="the first stage is a run"):
        pipeline.search("anything else")

    whole_run(first_stage, beir_folder, tiny_model, output)
    assert "first_stage: done before" in capsys.readouterr().err
    search_run(bm25, collection.documents.ids, some, 3, "lucene").write_trec(file)
    whole_run(first_stage, beir_folder, tiny_model, output)
    assert "first_stage: done before" not in capsys.readouterr().err
