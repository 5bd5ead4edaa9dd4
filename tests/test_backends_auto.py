"""The choice among engines: what it may not choose, what it says, and when it is made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from secondstage.backends import auto, open_engine
from secondstage.backends.auto import Trial, order_kept, reason_against
from secondstage.backends.engine import EngineReranker
from secondstage.backends.record import GRAPHS, write_record
from secondstage.errors import UserError
from secondstage.pairmodel import PairModel

Captured = pytest.CaptureFixture[str]
GOOD = Trial(100.0, 1e-5, 1.0)


@pytest.fixture
def model(apart_model: Path) -> Path:
    return apart_model


@pytest.fixture
def engines(made_engines: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_engines, tmp_path / "engines"))


def name_of(model: object) -> str:
    return model.engine if isinstance(model, EngineReranker) else "torch"


def test_torch_is_taken_where_there_is_nothing_else(model: Path, tmp_path: Path, capsys: Captured) -> None:
    assert name_of(open_engine(model, tmp_path / "engines")) == "torch"
    assert not (tmp_path / "engines").exists()
    assert "backend" not in capsys.readouterr().err


def test_the_fastest_is_chosen_said_and_kept(
    model: Path, engines: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = name_of(open_engine(model, engines, precision="fp32"))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"backend {chosen}, the fastest here" in said
    kept = json.loads((engines / "auto.json").read_text())
    allowed = {name: trial["pairs_per_s"] for name, trial in kept["trials"].items() if name not in kept["left_out"]}
    assert kept["backend"] == chosen == max(allowed, key=lambda name: allowed[name])
    assert kept["trials"]["onnx"]["difference"] < 1e-3

    def fail(*_: object) -> None:
        raise AssertionError("it was measured again")

    monkeypatch.setattr(auto, "_measured", fail)
    assert name_of(open_engine(model, engines, precision="fp32")) == chosen
    assert "as chosen before" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["engine", "threads", "broken cache"])
def test_it_is_chosen_again_where_something_changed(model: Path, engines: Path, capsys: Captured, change: str) -> None:
    open_engine(model, engines, precision="fp32", threads=1)
    capsys.readouterr()
    if change == "engine":
        write_record(engines / "onnx", "onnx", model, {"ndcg_delta": 0.001})
    elif change == "broken cache":
        (engines / "auto.json").write_text("[]")
    open_engine(model, engines, precision="fp32", threads=2 if change == "threads" else 1)
    assert "the fastest here" in capsys.readouterr().err


def test_what_cannot_be_opened_is_left_out_in_words(model: Path, engines: Path, capsys: Captured) -> None:
    with (engines / "openvino" / "openvino_model.bin").open("ab") as file:
        file.write(b"x")
    write_record(engines / "onnx-int8", "onnx-int8", model, {})
    assert name_of(open_engine(model, engines, precision="fp32")) not in ("openvino", "onnx-int8")
    said = capsys.readouterr().err
    assert "openvino left out" in said
    assert "was changed since it was made" in said
    assert "onnx-int8 left out: it was never checked on ranked lists" in said


@pytest.mark.parametrize("error", [UserError("a score that is not finite"), ValueError("shape mismatch")])
def test_an_engine_that_opens_and_gives_no_score_is_left_out(
    model: Path, engines: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(self: EngineReranker, *_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(EngineReranker, "score", fail)
    assert name_of(open_engine(model, engines, precision="fp32")) == "torch"
    said = capsys.readouterr().err
    assert said.count(f"left out: {error}") == 4
    assert set(json.loads((engines / "auto.json").read_text())["left_out"]) == set(GRAPHS)


def test_where_no_engine_scores_all_are_named(model: Path, engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise UserError("it is broken")

    monkeypatch.setattr(auto, "_measured", fail)
    with pytest.raises(UserError, match=r"no backend .*: torch: it is broken; onnx: it is broken; .*openvino-int8: it"):
        open_engine(model, engines, precision="fp32")


def test_torch_computes_in_single_precision_where_half_turns_the_order(
    model: Path, engines: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(model: PairModel, *_: object) -> Trial:
        return GOOD if model.origin is not None and model.origin[1] == "fp32" else GOOD._replace(kept=0.9)

    monkeypatch.setattr(auto, "_measured", measured)
    for words in ("backend torch-fp32, the fastest here", "backend torch-fp32, as chosen before"):
        chosen = open_engine(model, engines, precision="bf16")
        assert (name_of(chosen), chosen.origin and chosen.origin[1]) == ("torch", "fp32")
        assert words in capsys.readouterr().err
    assert "90.0% keep their order" in json.loads((engines / "auto.json").read_text())["left_out"]["torch"]


def test_a_folder_that_cannot_be_written_is_no_fault(
    model: Path, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(auto, "write_json", refuse)
    open_engine(model, engines, precision="fp32")
    assert not (engines / "auto.json").exists()


@pytest.mark.parametrize(
    ("name", "trial", "record", "reason"),
    [
        ("onnx", GOOD, {}, None),
        ("onnx", GOOD._replace(difference=0.002), {}, "off by 0.002"),
        ("openvino", GOOD._replace(difference=0.3), {}, None),
        ("openvino", GOOD._replace(kept=0.9), {}, "90.0% keep their order"),
        ("openvino-int8", GOOD._replace(difference=0.9), {"ndcg_delta": -0.003}, None),
        ("openvino-int8", GOOD, {"ndcg_delta": -0.0031}, "loses 0.0031"),
        ("openvino-int8", GOOD._replace(kept=0.5), {"ndcg_delta": 0.0}, "on this processor"),
        ("onnx-int8", GOOD, {"ndcg_delta": None, "kept": 0.995}, None),
        ("onnx-int8", GOOD, {}, "never checked"),
        ("torch", GOOD._replace(difference=0.3), {}, None),
        ("torch", GOOD._replace(kept=0.9), {}, "90.0% keep their order"),
    ],
)
def test_what_may_be_chosen(name: str, trial: Trial, record: dict[str, float], reason: str | None) -> None:
    found = reason_against(name, trial, record)
    assert found is None if reason is None else reason in (found or "")


def test_not_finite_is_never_the_same_order() -> None:
    expected = np.arange(5, dtype=np.float32)
    assert order_kept(expected, np.full(5, np.nan, np.float32)) == 0


def test_order_kept_counts_what_is_far_enough_apart() -> None:
    expected = np.array([0.0, 0.01, 1.0], np.float32)  # the first two are one percent of the range apart
    assert order_kept(expected, np.array([0.02, 0.0, 1.0], np.float32)) == 1
    assert order_kept(expected, np.array([0.0, 2.0, 1.0], np.float32)) == 1 / 2
    assert order_kept(np.zeros(3, np.float32), np.zeros(3, np.float32)) == 1
