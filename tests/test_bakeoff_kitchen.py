"""What makes cells: keys, what is shared, and the values of the lists that decide."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from secondstage.bakeoff.kitchen import Kitchen
from secondstage.bakeoff.recipes import Recipe, read_recipes
from secondstage.config import Config
from secondstage.configfile import check_config, override
from secondstage.errors import UserError
from secondstage.files import MANIFEST, read_json, read_manifest, write_json
from secondstage.measures import evaluate
from secondstage.plan import carry_out
from secondstage.reranker import Reranker
from secondstage.serve.fuse import fuse
from secondstage.sources.beir import BeirSource


@pytest.fixture(scope="module")
def data(beir_folder: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {
        "output": str(tmp_path_factory.mktemp("kitchen")),
        "collection": str(beir_folder),
        "first_stage": {"kind": "bm25"},
        "mine": {"depth": 12, "negatives": 5},
        "train": {"model": str(tiny_model), "steps": 2, "max_length": 32, "batch_tokens": 256, "precision": "fp32"},
        "serve": {"precision": "fp32"},
        "bakeoff": {"recipes": {"a": {"train.negatives": 3}, "b": {"mine.negatives": 4}}, "depth": 8},
    }


def kitchen(data: dict[str, Any], *overrides: str) -> tuple[Kitchen, dict[str, Recipe]]:
    config: Config = check_config(override(data, overrides))
    assert config.bakeoff is not None
    made = Kitchen(config, config.bakeoff, Path(config.output))
    made.prepare()
    return made, {recipe.name: recipe for recipe in read_recipes(config)}


def keys(data: dict[str, Any], *overrides: str) -> dict[str, str]:
    made, recipes = kitchen(data, *overrides)
    return {name: made.key(recipe, 13) for name, recipe in recipes.items()}


def test_keys_are_those_of_settings_seed_and_data_alone(data: dict[str, Any]) -> None:
    usual = keys(data)
    assert len(set(usual.values())) == 3
    assert keys(data) == usual
    # What has no part in it: which value decides, how the pipeline is served.
    assert keys(data, "bakeoff.system=reranked", "bakeoff.keep=true", "serve.depth=9") == usual
    # Of a recipe's own changes, its own key alone.
    changed = keys(data, "bakeoff.recipes.a={train.negatives: 2}")
    assert {name for name in usual if changed[name] == usual[name]} == {"base", "b"}
    for other in (
        "train.learning_rate=5e-5",
        "bakeoff.depth=5",
        "bakeoff.max_queries=7",
        "first_stage.bm25.k1=1.2",
        "serve.precision=bf16",
    ):
        assert not set(keys(data, other).values()) & set(usual.values()), other
    made, recipes = kitchen(data)
    assert made.key(recipes["a"], 14) != usual["a"]
    # What another seed trains is not the cut of dev, which all share: the folders that are common stay as they are.
    before = read_manifest(made.folder.parent / "collection", "collection")["fingerprint"]
    made.make(recipes["a"], 14)
    assert read_manifest(made.folder.parent / "collection", "collection")["fingerprint"] == before


def test_another_split_over_the_same_queries_is_another_key(
    data: dict[str, Any], beir_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(beir_folder, tmp_path / "beir")
    shutil.copy(folder / "qrels" / "dev.tsv", folder / "qrels" / "strict.tsv")
    given = [f"collection={folder}", f"output={tmp_path / 'out'}"]
    usual, strict = keys(data, *given), keys(data, *given, "bakeoff.split=strict")
    assert not set(usual.values()) & set(strict.values())


def test_values_are_those_of_the_reranker_over_the_lists_that_decide(
    data: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    made, recipes = kitchen(data)
    cell = made.make(recipes["base"], 13)
    run, qrels, collection = made.run, made.qrels, made.collection
    assert qrels.keys() == collection.qrels["dev"].keys()
    assert max(len(ranking.doc_ids) for ranking in run.values()) == 8
    reranker = Reranker.load(made.reranker("base", 13), precision="fp32")
    reranked = reranker.rerank(run, collection.queries, collection.documents)
    assert cell.values["reranked"] == evaluate(reranked, qrels, ["nDCG@10"])["nDCG@10"]
    assert cell.values["pipeline"] == evaluate(fuse(run, reranked, 0.5), qrels, ["nDCG@10"])["nDCG@10"]
    assert made.first_stage() == evaluate(run, qrels, ["nDCG@10"])["nDCG@10"]
    assert (cell.steps, cell.recipe, cell.seed) == (2, "base", 13)
    assert made.kept(cell) == made.reranker("base", 13)
    assert made.kept(cell._replace(training="of another recipe")) is None
    # Finished, but killed before it was noted: it is scored again, and not trained.
    capsys.readouterr()
    assert made.make(recipes["base"], 13).values == cell.values
    assert "train: done before" in capsys.readouterr().err
    # Of a config that had students before, and has none now.
    stale = made.reranker("base", 13).parent.parent / "student"
    shutil.copytree(made.reranker("base", 13).parent, stale)
    write_json(stale / MANIFEST, read_json(stale / MANIFEST) | {"fingerprint": "of a student"})
    kept = made.kept(cell)
    assert kept is not None
    assert kept.parent.name == "train"
    made.discard("base", 13)
    assert made.kept(cell) is None
    assert not kept.exists()
    assert not (stale / "reranker").exists()
    assert (made.reranker("base", 13).parent / "steps.jsonl").is_file()


def test_of_a_config_that_distils_the_student_is_what_is_compared(
    data: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    """A teacher that is there, and students of it; the second differs by its rate."""
    teacher = tmp_path / "teacher"
    Reranker.load(tiny_model, max_length=32, precision="fp32").save(teacher)
    made, recipes = kitchen(
        data,
        f"output={tmp_path / 'out'}",
        f"distill={{teacher: '{teacher}'}}",
        "distill.student={steps: 2, max_length: 32, batch_tokens: 256, precision: fp32, student: {layers: 1}}",
        "bakeoff.recipes={a: {distill.student.learning_rate: 1e-3}}",
    )
    cells = {name: made.make(recipe, 13) for name, recipe in recipes.items()}
    for name, cell in cells.items():
        student = Reranker.load(made.reranker(name, 13), precision="fp32")
        assert student.model.config.num_hidden_layers == 1
        reranked = student.rerank(made.run, made.collection.queries, made.collection.documents)
        assert cell.values["reranked"] == evaluate(reranked, made.qrels, ["nDCG@10"])["nDCG@10"]
        assert cell.steps == 2
    assert cells["base"].training != cells["a"].training


def test_recipes_with_the_same_mining_share_its_lists(
    data: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, recipes = kitchen(data, f"output={tmp_path}")
    mined = []

    def counted(stage: Any, parent: Path) -> dict[str, Any]:
        if not (parent / stage.kind).exists():
            mined.append(stage.kind)
        return carry_out(stage, parent)

    monkeypatch.setattr("secondstage.bakeoff.kitchen.carry_out", counted)
    for name in ("base", "a", "b"):
        made.make(recipes[name], 13)
    assert mined == ["mine", "train", "train", "mine", "train"]


def test_the_files_of_the_collection_are_read_once_for_all_recipes(
    data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    original = BeirSource.fingerprint

    def counted(self: BeirSource) -> str:
        reads.append(1)
        return original(self)

    monkeypatch.setattr(BeirSource, "fingerprint", counted)
    config = check_config(data)
    assert config.bakeoff is not None
    made = Kitchen(config, config.bakeoff, Path(config.output))
    made.check(read_recipes(config))
    made.prepare()
    for recipe in read_recipes(config):
        made.key(recipe, 13)
    assert len(reads) == 1


def test_as_many_queries_as_were_asked_for_decide(data: dict[str, Any]) -> None:
    made, _ = kitchen(data, "bakeoff.max_queries=5")
    assert len(made.qrels) == 5
    assert made.run.keys() <= made.qrels.keys()
    assert made.first_stage().keys() == made.qrels.keys()


def test_what_training_gives_away_does_not_decide(data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secondstage.leakage.ENOUGH", 1)
    made, _ = kitchen(data)
    collection = made.collection
    known, asked = min(collection.qrels["train"]), min(made.basis.qrels)
    assert asked in made.qrels
    monkeypatch.setitem(collection.queries, asked, collection.queries[known].upper() + " ?")
    for name in ("basis", "qrels"):
        made.__dict__.pop(name, None)
    assert asked not in made.qrels
    assert made.basis.free >= len(made.qrels) > 0


def test_a_collection_without_training_queries_is_refused_before_its_index_is_made(
    beir_folder: Path, tmp_path: Path, data: dict[str, Any]
) -> None:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/dev.tsv"):
        (folder / name).write_bytes((beir_folder / name).read_bytes())
    with pytest.raises(UserError, match="no train split"):
        kitchen(data, f"collection={folder}", f"output={tmp_path / 'out'}")
    assert not (tmp_path / "out" / "first_stage").exists()
