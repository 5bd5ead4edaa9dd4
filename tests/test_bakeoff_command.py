"""The bake-off from a config to its files, with a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from secondstage.bakeoff import bake_off
from secondstage.bakeoff.cells import Cell
from secondstage.bakeoff.command import winners_config
from secondstage.bakeoff.recipes import read_recipes
from secondstage.cli import main
from secondstage.configfile import check_config, load_config
from secondstage.errors import UserError
from secondstage.files import read_json
from secondstage.lists import read_lists
from secondstage.measures import mean


@pytest.fixture
def config(beir_folder: Path, tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "output": str(tmp_path / "out"),
        "collection": str(beir_folder),
        "first_stage": {"kind": "bm25"},
        "mine": {"depth": 12, "negatives": 5},
        "train": {
            "model": str(tiny_model),
            "steps": 6,
            "max_length": 32,
            "batch_tokens": 512,
            "learning_rate": 1e-3,
            "precision": "fp32",
            "evaluations": 1,
            "dev_depth": 10,
        },
        "serve": {"precision": "fp32"},
        "evaluate": {"resamples": 200},
        "bakeoff": {
            "recipes": {"faster": {"train.learning_rate": 5e-3}, "top": {"mine": {"sampler": "top"}}},
            "seeds": [13, 14],
            "depth": 10,
        },
    }


def written(config: dict[str, Any], folder: Path) -> str:
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "config.yaml")


def test_a_bake_off_from_the_command_line(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = written(config, tmp_path), tmp_path / "out" / "bakeoff"
    assert main(["bakeoff", path]) == 0
    out, err = capsys.readouterr()
    assert "cell 1 of 6: base, seed 13" in err
    assert "cell 6 of 6: top, seed 14; about" in err
    found = read_json(folder / "results.json")
    assert out.startswith(found["sentence"])
    assert sum(line.startswith(("  base ", "  top ", "  faster ")) for line in out.splitlines()) >= 3
    assert (found["queries"], found["budget"], found["seeds"]) == (16, {"steps": 6}, [13, 14])
    assert set(found["recipes"]) == {"base", "faster", "top"}

    # Each cell is a training of its own; mining is shared by base and faster, whose settings for it are the same.
    cells = [Cell(**json.loads(line)) for line in (folder / "cells.jsonl").read_text().splitlines()]
    assert [(cell.recipe, cell.seed) for cell in cells] == [
        (recipe, seed) for seed in (13, 14) for recipe in ("base", "faster", "top")
    ]
    assert all(cell.steps == 6 and cell.tokens > 0 and 0 < cell.pairs <= 160 for cell in cells)
    assert len({json.dumps(cell.values) for cell in cells}) > 1
    assert len(list((folder / "shared").glob("*/mine"))) == 4
    for name, row in found["recipes"].items():
        own = [mean(dict(cell.values["pipeline"])) for cell in cells if cell.recipe == name]
        assert row["systems"]["pipeline"]["by_seed"] == pytest.approx(own)

    # Only the winner's reranker is left, and it is where the results say.
    (kept,) = folder.glob("cells/*/*/train/reranker")
    assert (
        kept
        == Path(found["reranker"])
        == folder / "cells" / found["winner"] / str(found["best_seed"]) / ("train/reranker")
    )
    assert "Content-Security-Policy" in (folder / "report.html").read_text()

    # The winner's config is one that can be run, and differs from the base in what the recipe changes.
    winner = load_config(folder / "winner.yaml")
    (recipe,) = (recipe for recipe in read_recipes(load_config(path)) if recipe.name == found["winner"])
    assert winner == recipe.config

    # Nothing is made twice, and the same results are written again.
    assert main(["bakeoff", path]) == 0
    again = capsys.readouterr()
    assert again.out == out
    assert "6 of 6 cells done before" in again.err
    assert "train …" not in again.err

    # A recipe that is changed is made again, and only that.
    assert main(["bakeoff", path, "bakeoff.recipes.faster={train.learning_rate: 2e-3}"]) == 0
    assert capsys.readouterr().err.count("train …") == 2


def test_a_cell_is_what_the_recipe_alone_comes_to(config: dict[str, Any], tmp_path: Path) -> None:
    from secondstage.commands import carry_out_up_to

    config["bakeoff"] |= {"seeds": [13], "keep": True}
    bake_off(check_config(config))
    alone = {key: value for key, value in config.items() if key != "bakeoff"}
    alone |= {"output": str(tmp_path / "alone"), "mine": {**config["mine"], "sampler": "top"}}
    carry_out_up_to("train", check_config(alone))
    (shared,) = (
        path
        for path in (tmp_path / "out/bakeoff/shared").glob("*/mine")
        if list(read_lists(path / "train")) == list(read_lists(tmp_path / "alone/mine/train"))
    )
    assert (shared / "dev.trec").read_bytes() == (tmp_path / "alone/mine/dev.trec").read_bytes()
    weights = "train/reranker/model.safetensors"
    assert (tmp_path / "out/bakeoff/cells/top/13" / weights).read_bytes() == (tmp_path / "alone" / weights).read_bytes()
    assert len(list((tmp_path / "out/bakeoff/cells").glob("*/13/train/reranker"))) == 3


def test_missing_models_of_recipes_are_told_before_any_work(config: dict[str, Any], tmp_path: Path) -> None:
    config["bakeoff"]["recipes"] = {
        "reviewed": {"mine.reviewed": str(tmp_path / "none.tsv")},
        "repeats": {"mine.teachers": {"large": {"kind": "api", "api": {"url": "http://x/", "api_key_env": "NO_KEY"}}}},
    }
    (tmp_path / "no-model").mkdir()
    config["bakeoff"]["recipes"]["other"] = {"train.model": str(tmp_path / "no-model")}
    with pytest.raises(UserError) as caught:
        bake_off(check_config(config))
    message = str(caught.value)
    assert message.startswith("bakeoff: 3 faults")
    assert "recipes: other: model " in message
    assert "recipes: reviewed: mine.reviewed:" in message
    assert "recipes: repeats:" in message
    assert not (tmp_path / "out").exists()


def test_a_split_that_is_not_there_is_told_before_the_first_stage_is_made(
    config: dict[str, Any], tmp_path: Path
) -> None:
    config["bakeoff"]["split"] = "validation"
    with pytest.raises(UserError, match="validation"):
        bake_off(check_config(config))
    assert not (tmp_path / "out" / "first_stage").exists()


def test_a_bake_off_is_one_process(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="one process"):
        bake_off(check_config(config))


def test_the_header_of_the_winner_says_what_was_found(config: dict[str, Any]) -> None:
    recipes = read_recipes(check_config(config))
    systems = {"reranked": {"mean": 0.5}, "pipeline": {"mean": 0.625}}
    found = {
        "winner": "faster",
        "sentence": "faster wins: a\nsentence",
        "measure": "nDCG@10",
        "split": "dev",
        "queries": 16,
        "seeds": [13, 14],
        "first_stage": 0.25,
        "recipes": {"base": {}, "faster": {"systems": systems}},
    }
    text = winners_config(found, recipes, Path("x/winner.yaml"))
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert header[0] == "# secondstage run x/winner.yaml"
    assert "# sentence." in header
    assert "reranked 0.5000, pipeline 0.6250; first stage 0.2500" in text
    assert "train.learning_rate=0.005" in text
    assert check_config(yaml.safe_load(text)) == recipes[1].config
