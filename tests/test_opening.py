"""What a bundle may not hold: it is refused with words, and nothing of it is run."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secondstage.cli import main
from secondstage.config import ServeConfig
from secondstage.configfile import check_config
from secondstage.documenttokens import DocumentTokens
from secondstage.errors import UserError
from secondstage.files import MANIFEST, read_json, write_json
from secondstage.reranker import Reranker
from secondstage.serve import Pipeline

from .bundles import resigned


@pytest.fixture
def bundle(run_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(run_folder / "bundle", tmp_path / "bundle")
    return tmp_path / "bundle"


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    found = read_json(path)
    change(found)
    write_json(path, found)


class Bomb:
    """Leaves a file behind when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("name", ["reranker/pytorch_model.bin", "first_stage/encoder/pytorch_model.bin"])
def test_a_pickle_is_refused_and_never_opened(bundle: Path, tmp_path: Path, name: str, beside: bool) -> None:
    (bundle / name).write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    if not beside:
        (bundle / name).with_name("model.safetensors").unlink()
    with pytest.raises(UserError, match=rf"{name} may be a pickle, which can run any code .* so it is refused"):
        Pipeline.load(resigned(bundle))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["reranker/adapter_config.json", "first_stage/encoder/adapter_model.safetensors"])
def test_what_the_manifest_does_not_name_is_refused_beside_a_model(bundle: Path, name: str) -> None:
    """Libraries load what they find there, and every digest would still be right."""
    (bundle / "verdict.json").touch()  # comes later, and is no part of a model
    (bundle / "reranker" / ".DS_Store").touch()
    (bundle / name).write_text("{}")
    with pytest.raises(UserError, match=rf"holds {name}, which its manifest does not name: take it away"):
        Pipeline.load(bundle)
    (bundle / name).unlink()
    (bundle / "verdict.json").unlink()
    Pipeline.load(bundle)


@pytest.mark.parametrize("known", [True, False])
def test_code_of_a_model_is_never_run(bundle: Path, tmp_path: Path, known: bool) -> None:
    """`auto_map` names code beside the weights: it is passed over where transformers knows the model, else refused."""
    mark = tmp_path / "mark"
    (bundle / "reranker" / "evil.py").write_text(
        f"open({str(mark)!r}, 'w').close()\nclass Config: ...\nclass Model: ...\n"
    )

    def name_code(config: dict[str, Any]) -> None:
        config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}
        config["model_type"] = "bert" if known else "evil"

    edited(bundle / "reranker" / "config.json", name_code)
    resigned(bundle)
    if known:
        assert len(Pipeline.load(bundle).search("water", 3)) == 3
    else:
        with pytest.raises(UserError, match=r"brings Python code of its own \(auto_map .* never run"):
            Pipeline.load(bundle)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["../reranker/config.json", "/etc/hostname", "first_stage/../../x", "a\\..\\b"])
def test_a_manifest_that_climbs_out_is_refused(bundle: Path, name: str) -> None:
    edited(bundle / MANIFEST, lambda manifest: manifest["files"].update({name: "0" * 64}))
    with pytest.raises(UserError, match="which lies outside of it: make it again"):
        Pipeline.load(bundle)


@pytest.mark.parametrize("folder", ["../other", "/tmp", "reranker/../../other", "nowhere", ""])
def test_a_cascade_that_climbs_out_is_refused(bundle: Path, folder: str) -> None:
    shutil.copytree(bundle / "reranker", bundle.parent / "other")
    stages = [{"folder": folder, "depth": 30}]
    edited(bundle / "pipeline.json", lambda settings: settings.update(cascade=stages))
    with pytest.raises(UserError, match="which is not a folder of the bundle: make it again"):
        Pipeline.load(resigned(bundle))


def test_a_newer_format_is_refused(bundle: Path) -> None:
    edited(bundle / MANIFEST, lambda manifest: manifest.update(format=2, secondstage="9.0"))
    with pytest.raises(UserError, match=r"has format 2, made by secondstage 9\.0; this version .* reads format 1"):
        Pipeline.load(bundle)


# --- cascades in a config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cascade": [{"depth": 30}]}, "give a model to every stage but the last"),
        ({"cascade": [{"model": "a", "depth": 30}]}, "give a model to every stage but the last"),
        ({"cascade": [{"model": "a", "depth": 30}, {"model": "b", "depth": 10}]}, "give a model to every stage"),
        ({"cascade": [{"depth": 30}, {"depth": 10}]}, "give a model to every stage but the last"),
        ({"cascade": [{"model": "a", "depth": 10}, {"depth": 30}]}, r"the depths \[10, 30\] must not rise"),
        (
            {"cascade": [{"model": "a", "depth": 30}, {"depth": 10, "max_length": 64}]},
            "the last stage has the max_length",
        ),
        (
            {"depth": 20, "cascade": [{"model": "a", "depth": 30}, {"depth": 10}]},
            "serve.depth=20 is not",
        ),
        ({"cascade": [{"model": "a", "depth": 200}, {"depth": 10}]}, "serve looks 200 documents deep"),
    ],
)
def test_cascades_that_make_no_sense_are_refused(settings: dict[str, Any], words: str) -> None:
    config = {
        "output": "out",
        "collection": "pydocs",
        "first_stage": {"kind": "hybrid", "depth": 100, "dense": {"model": "x"}},
        "train": {"model": "x", "steps": 1},
        "serve": settings,
    }
    with pytest.raises(UserError, match=words):
        check_config(config)


def test_how_deep_a_cascade_looks() -> None:
    config = ServeConfig.from_json({"cascade": [{"model": "a", "depth": 70}, {"depth": 10}]})
    assert config.deepest == 70
    assert ServeConfig(depth=5).deepest == 5


def engines(pipeline: Pipeline) -> list[str]:
    models: list[Any] = [*(stage.scorer for stage in pipeline.cascade), pipeline.reranker]
    return [model.engine for model in models]


@pytest.mark.slow
def test_a_bundle_with_a_cascade(
    beir_folder: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made, proven and opened; the model before the last one is in the bundle, and keeps tokens of documents too."""
    from secondstage.commands import carry_out_up_to

    Reranker.load(tiny_model, max_length=32, precision="fp32").save(tmp_path / "small")
    small = {"model": str(tmp_path / "small"), "depth": 8, "max_length": 24}
    config = {
        "output": str(tmp_path / "out"),
        "collection": str(beir_folder),
        "first_stage": {"kind": "bm25"},
        "train": {"model": str(tiny_model), "steps": 2, "max_length": 32, "batch_tokens": 512, "precision": "fp32"},
        "serve": {"precision": "fp32", "cascade": [small, {"depth": 4}]},
        "evaluate": {"resamples": 100, "latency_queries": 2},
    }
    carry_out_up_to("evaluate", check_config(config))
    bundle = tmp_path / "out" / "bundle"
    assert "rerankers/1/model.safetensors" in read_json(bundle / MANIFEST)["files"]
    pipeline = Pipeline.load(bundle)
    assert pipeline.depths == (8, 4)
    assert read_json(bundle / "rerankers" / "1" / "score.json")["max_length"] == 24
    assert pipeline.reranker.calibration is not None
    answer = pipeline.answer("key of the piano")
    assert (len(answer.trace.first), answer.trace.depth) == (8, 4)
    assert answer.confidence is not None
    metrics = json.loads((tmp_path / "out" / "evaluation" / "metrics.json").read_text())
    assert metrics["test_sets"]["test"]["depth"]["depths"][-1] == 4
    # The ceiling and the baselines are those of the lists that the first reranker reads.
    assert metrics["candidates"] == 8
    found = {name: row["measures"] for name, row in metrics["test_sets"]["test"]["systems"].items()}
    assert metrics["test_sets"]["test"]["ceiling"]["recall"] == found["first_stage"]["R@8"] == found["oracle"]["R@8"]
    read: list[str] = []
    plain = DocumentTokens._plain

    def reading(kept: DocumentTokens, texts: list[str]) -> list[list[int]]:
        read.extend(texts)
        return plain(kept, texts)

    monkeypatch.setattr(DocumentTokens, "_plain", reading)
    assert pipeline.answer("key of the piano").results == answer.results
    assert read == ["key of the piano"] * 2
    # Both get an engine; where one has none, torch computes.
    assert main(["export", str(bundle), "--to", "onnx", "--queries", "2"]) == 0
    by_engine = Pipeline.load(bundle, "onnx")
    assert engines(by_engine) == ["onnx", "onnx"]
    again = by_engine.answer("key of the piano")
    assert [result.doc_id for result in again.results] == [result.doc_id for result in answer.results]
    shutil.rmtree(bundle / "engines" / "rerankers")
    assert engines(Pipeline.load(bundle, "onnx")) == ["torch", "onnx"]


def test_a_setting_that_only_a_newer_version_knows_is_told(bundle: Path) -> None:
    edited(bundle / "pipeline.json", lambda settings: settings["serve"].update(telepathy=True))
    with pytest.raises(
        UserError,
        match=r"pipeline\.json: this version .* does not know .* serve\.telepathy: ",
    ):
        Pipeline.load(resigned(bundle))


def test_a_manifest_without_a_fingerprint_is_told(bundle: Path) -> None:
    edited(bundle / MANIFEST, lambda manifest: manifest.pop("fingerprint"))
    with pytest.raises(UserError, match="has no fingerprint: make the bundle again"):
        Pipeline.load(bundle)


@pytest.mark.parametrize("verdict", [{}, {"passed": "yes", "sentence": "x"}, {"passed": True, "sentence": None}])
def test_a_verdict_that_was_changed_is_told(bundle: Path, verdict: dict[str, Any]) -> None:
    write_json(bundle / "verdict.json", {"bundle": read_json(bundle / MANIFEST)["fingerprint"], **verdict})
    with pytest.raises(UserError, match=r"verdict\.json was changed: delete it"):
        Pipeline.load(bundle)
