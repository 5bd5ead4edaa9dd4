"""Which kind of reranker a folder holds, and that a folder gives the scores that were written to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from secondstage.calibration import Calibration
from secondstage.decoder import INSTRUCTION, DecoderReranker
from secondstage.errors import UserError
from secondstage.pairmodel import CONTRACT
from secondstage.reranker import Reranker, keep_scores
from secondstage.rerankers import load_reranker

from .families import PAIRS, save_family


def load(folder: Path, **settings: Any) -> Any:
    return load_reranker(folder, **{"precision": "fp32", **settings})


def test_the_contract_tells_the_kind(tiny_model: Path, tmp_path: Path) -> None:
    decoder = load(save_family("llama", tmp_path / "llama", tiny_model, head="tokens"), kind="yes_no")
    decoder.calibration = Calibration("platt", 2.5, -1.25)
    decoder.save(tmp_path / "decoder")
    contract = json.loads((tmp_path / "decoder" / CONTRACT).read_text())
    assert contract["kind"] == "yes_no"
    assert contract["instruction"] == INSTRUCTION
    assert contract["template"] == list(decoder.template)
    again = load(tmp_path / "decoder")
    assert again.calibration == decoder.calibration
    assert again.probabilities(again.score(PAIRS)) == decoder.calibration.of_list(again.score(PAIRS)).tolist()
    assert load(tmp_path / "decoder", instruction="other").instruction == "other"
    Reranker.load(tiny_model, precision="fp32").save(tmp_path / "head")
    assert type(load(tmp_path / "head")) is Reranker
    assert type(load(tiny_model)) is Reranker


def test_a_contract_without_a_kind_is_of_a_classification_head(tiny_model: Path, tmp_path: Path) -> None:
    """As all were that were written before there were kinds."""
    reranker = Reranker.load(tiny_model, max_length=24, precision="fp32")
    reranker.save(tmp_path)
    contract = json.loads((tmp_path / CONTRACT).read_text())
    del contract["kind"]
    (tmp_path / CONTRACT).write_text(json.dumps(contract))
    again = load(tmp_path)
    assert type(again) is Reranker
    assert again.max_length == 24
    assert again.score(PAIRS).tolist() == pytest.approx(reranker.score(PAIRS).tolist(), abs=1e-6)


def test_a_kind_that_is_not_known_is_told(tiny_model: Path, tmp_path: Path) -> None:
    Reranker.load(tiny_model, precision="fp32").save(tmp_path)
    contract = json.loads((tmp_path / CONTRACT).read_text())
    (tmp_path / CONTRACT).write_text(json.dumps(contract | {"kind": "listwise"}))
    with pytest.raises(UserError, match=r"kind 'listwise', .* \(classification, yes_no\)"):
        load(tmp_path)


def test_kept_scores_of_a_folder_are_of_its_instruction(tiny_model: Path, tmp_path: Path) -> None:
    """The contract is left out of the digest, for a calibration changes no score; the instruction does."""
    load(save_family("llama", tmp_path / "base", tiny_model, head="tokens"), kind="yes_no").save(tmp_path / "saved")
    one, other = (load(tmp_path / "saved", instruction=text) for text in (None, "find the opposite"))
    assert keep_scores(one, tmp_path).path != keep_scores(other, tmp_path).path


@pytest.mark.slow
def test_a_run_trains_a_decoder_and_its_bundle_serves_it(beir_folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    from secondstage.commands import carry_out_up_to
    from secondstage.configfile import check_config
    from secondstage.serve import Pipeline

    base = save_family("llama", tmp_path / "base", tiny_model, head="tokens")
    head = {"head": "yes_no", "instruction": "find it", "max_length": 340, "lora": {"rank": 2}}
    brief = {"evaluations": 1, "dev_depth": 5}
    config = {
        "output": str(tmp_path / "out"),
        "collection": str(beir_folder),
        "first_stage": {"kind": "bm25"},
        "train": {"model": str(base), "steps": 2, "batch_tokens": 4096, "precision": "fp32", **head, **brief},
        "serve": {"depth": 5, "max_depth": 5, "precision": "fp32"},
        "evaluate": {"resamples": 200, "latency_queries": 2, "depth_queries": 5},
    }
    carry_out_up_to("evaluate", check_config(config))
    pipeline = Pipeline.load(tmp_path / "out" / "bundle")
    reranker = pipeline.reranker
    assert isinstance(reranker, DecoderReranker)
    assert (reranker.instruction, reranker.max_length) == ("find it", 340)
    (first, *_) = pipeline.search("flour of the bread")
    content = pipeline.documents.by_id(first.doc_id).content
    assert first.reranker_score == pytest.approx(float(reranker.score([("flour of the bread", content)])[0]), abs=1e-3)
    # The untuned model is a system too, asked the same.
    runs = {path.stem for path in (tmp_path / "out" / "evaluation" / "runs").rglob("*") if path.is_file()}
    assert any("untuned" in name for name in runs), runs
