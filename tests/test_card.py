"""The model card: what was done and measured, and nothing that was not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from secondstage.config import TrainConfig
from secondstage.reranker import Reranker
from secondstage.train.card import card, loss_in_words, write_card

CONTRACT = {
    "score": "logit",
    "higher_is_better": True,
    "max_length": 128,
    "truncation": "longest_first",
    "document": "title and text, joined by a line break",
}
RESULT = {
    "steps": 635,
    "lists": 2540,
    "pairs": 20320,
    "tokens": 2_000_000,
    "padding": 50_000,
    "seconds": 240.0,
    "dev_nDCG@10": 0.71234,
    "first_stage_nDCG@10": 0.64701,
    "dev_queries": 100,
    "dev_depth": 30,
    "best_step": 512,
    "findings": [],
}


def run(**config: Any) -> dict[str, Any]:
    return {
        "config": TrainConfig.model_validate({"minutes": 4.0} | config).model_dump(mode="json"),
        "seed": 13,
        "model": {"name": "organisation/model", "hub": "organisation/model", "revision": "abc123"},
        "data": {
            "lists": 5600,
            "synthetic": 7,
            "positive": 6000,
            "negative": 80_000,
            "ignored": 12,
            "retrievers": ["bm25", "dense"],
            "teachers": ["large"],
            "fingerprint": "f" * 64,
        },
        "versions": {"secondstage": "0.1.0", "torch": "2.13.0"},
        "git": {"commit": "c0ffee", "dirty": True},
        "machine": {"device": "cpu", "name": "A Processor", "processes": 2, "threads": 1, "precision": "bf16"},
    }


def front_matter(text: str) -> dict[str, Any]:
    _, matter, _ = text.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(matter)
    return found


def test_the_front_matter_is_what_the_hub_reads() -> None:
    assert front_matter(card(run(), RESULT, CONTRACT)) == {
        "library_name": "sentence-transformers",
        "pipeline_tag": "text-ranking",
        "tags": ["sentence-transformers", "cross-encoder", "reranker", "secondstage"],
        "base_model": "organisation/model",
    }


def test_a_folder_is_no_base_model_and_no_license_is_invented() -> None:
    record = run() | {"model": {"name": "models/mine", "hub": None, "revision": None}}
    text = card(record, RESULT, CONTRACT)
    assert "base_model" not in front_matter(text)
    assert "It started from `models/mine`." in text
    assert "license" not in text.lower()


@pytest.mark.parametrize(
    "said",
    [
        "It started from `organisation/model` (revision abc123).",
        "| first stage | 0.6470 |",
        "| this reranker alone, on the first stage's lists | 0.7123 |",
        "On 100 dev queries, 30 candidates each.",
        "Budget: 4.0 minutes; 635 steps were made in 4.0 minutes.",
        "20,320 pairs in 2,540 lists",
        "2,000,000 tokens, of which 2.5\N{NO-BREAK SPACE}% padding",
        "Loss: lce.",
        "learning_rate 0.0001",
        "Kept are the weights after 512 steps.",
        "5,600 lists, one a query, with 6,000 positives and 80,000 negatives",
        "7 of the queries were made from documents.",
        "Candidates were found by: bm25, dense.",
        "Teacher scores are from: large.",
        "A Processor (cpu), 2 processes, 1 threads each, bf16.",
        "secondstage 0.1.0, torch 2.13.0.",
        "Commit `c0ffee`, with changes that are not in it.",
        "A score is a logit; higher is more relevant.",
        "It is no probability; if score.json holds a calibration, secondstage makes",
        "at most 128 tokens (truncation: longest first)",
        "The text of a document is: title and text, joined by a line break.",
        "CrossEncoder(folder)",
        "Reranker.load(folder)",
    ],
)
def test_what_was_done_and_measured_is_said(said: str) -> None:
    assert said in card(run(), RESULT, CONTRACT)


def test_without_dev_nothing_is_claimed() -> None:
    without = {name: value for name, value in RESULT.items() if "dev" not in name and "first_stage" not in name}
    text = card(run(), without, CONTRACT)
    assert "Nothing: there was no dev set." in text
    assert "0.71" not in text
    assert "| first stage |" not in text


def test_dev_that_chose_nothing_is_not_said_to_have_chosen() -> None:
    chosen = "The checkpoint was chosen on them"
    assert chosen in card(run(), RESULT, CONTRACT)
    text = card(run(folds=5), RESULT, CONTRACT)
    assert chosen not in text
    assert "When to stop was not chosen on them, but on 5 folds of the training queries." in text


def test_what_a_record_lacks_is_not_spoken_of() -> None:
    text = card({}, {}, {})
    for section in ("How it was trained", "What it learnt from", "Where and with what", "What its scores mean"):
        assert section not in text
    assert "None" not in text


def test_findings_come_first() -> None:
    text = card(run(), RESULT | {"findings": ["collapsed scores: look"]}, CONTRACT)
    assert text.index("collapsed scores: look") < text.index("## ")


def test_what_changed_the_model_is_said() -> None:
    settings = {"student": {"layers": 3}, "lora": {"rank": 8}, "freeze_embeddings": True, "freeze_layers": 2}
    text = card(run(**settings), RESULT, CONTRACT)
    assert "cut to 3 layers (every)." in text
    assert "Low-rank adapters of rank 8, merged." in text
    assert "The embeddings were frozen." in text
    assert "The lowest 2 layers were frozen." in text


def test_a_decoder_is_no_cross_encoder() -> None:
    text = card(run(head="yes_no"), RESULT, CONTRACT)
    assert "cross-encoder" not in front_matter(text)["tags"]
    assert "CrossEncoder" not in text
    assert "load_reranker(folder)" in text


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ({"lce": {"weight": 1.0}}, "lce"),
        ({"lce": {"weight": 2.0}, "kl": {"weight": 0.5, "temperature": 2.0}}, "2 × lce + 0.5 × kl (temperature 2.0)"),
    ],
)
def test_a_loss_in_words(loss: dict[str, Any], said: str) -> None:
    assert loss_in_words(loss) == said


def test_the_card_lies_beside_the_weights(tiny_model: Path, tmp_path: Path) -> None:
    """What it says of the contract is what was saved, and the code that it shows runs."""
    Reranker.load(tiny_model, max_length=32, precision="fp32").save(tmp_path / "reranker")
    (tmp_path / "run.json").write_text(json.dumps(run()))
    write_card(tmp_path / "reranker", tmp_path, RESULT)
    text = (tmp_path / "reranker" / "README.md").read_text()
    assert "cut pairs at 32 tokens" in text
    scores = []
    for block in text.split("```python\n")[1:]:
        names: dict[str, Any] = {"folder": str(tmp_path / "reranker"), "query": "snow", "document": "winter snow"}
        exec(block.split("```")[0], names)
        scores.append(float(names["scores"][0]))
    assert len(scores) == 2
    assert scores[0] == pytest.approx(scores[1], abs=1e-2)
