"""Recipes: a config with changes, under the budget of all; every fault is told at once."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest
import yaml

from secondstage.bakeoff.contest import time_left
from secondstage.bakeoff.recipes import Recipe, budget, changed_keys, laid_over, read_recipes
from secondstage.config import BakeoffConfig, Config
from secondstage.configfile import check_config, load_config, override
from secondstage.errors import UserError

BASE: dict[str, Any] = {"output": "x", "collection": "pydocs", "train": {"minutes": 4, "batch_tokens": 4096}}
STUDENT = "distill={teacher: m, student: {model: n, minutes: 3}}"


def config(recipes: dict[str, Any], *overrides: str, **settings: Any) -> Config:
    return check_config(override(BASE | {"bakeoff": {"recipes": recipes, **settings}}, overrides))


def read(recipes: dict[str, Any], *overrides: str, **settings: Any) -> dict[str, Recipe]:
    return {recipe.name: recipe for recipe in read_recipes(config(recipes, *overrides, **settings))}


def faults(recipes: dict[str, Any], *overrides: str, **settings: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        read(recipes, *overrides, **settings)
    return [line.strip() for line in str(caught.value).splitlines()]


def test_dotted_keys_and_sections_mean_the_same_as_the_override() -> None:
    found = read({"a": {"train.negatives": 3, "mine": {"false_negatives": {"teacher": "keep"}, "depth": 20}}})
    assert list(found) == ["base", "a"]
    wanted = check_config(override(BASE, ["train.negatives=3", "mine.depth=20", "mine.false_negatives.teacher=keep"]))
    assert found["a"].config == wanted
    assert found["a"].changes == {"train.negatives": 3, "mine.false_negatives.teacher": "keep", "mine.depth": 20}
    assert found["base"].config == check_config(BASE)


def test_a_null_is_a_value_and_what_is_no_section_is_replaced() -> None:
    found = read(
        {"open": {"mine.max_share": None}, "quota": {"mine": {"quotas": {"bm25": 0.5}}}}, "mine.quotas.dense=0.5"
    )
    assert found["base"].config.mine.max_share == 0.95
    assert found["open"].config.mine.max_share is None
    assert found["quota"].config.mine.quotas == {"bm25": 0.5}


def test_a_section_that_may_be_missing_is_filled() -> None:
    found = read({"cut": {"train.student.layers": 3}, "rank": {"train": {"lora": {"rank": 4}}}})
    assert found["cut"].config.train.student is not None
    assert found["cut"].config.train.student.layers == 3
    assert found["rank"].config.train.lora is not None
    assert found["rank"].config.train.lora.rank == 4


def test_recipes_come_from_the_command_line_as_well() -> None:
    found = read({"a": {"train.negatives": 3}}, "bakeoff.recipes.b.train.learning_rate=2e-5", "bakeoff.seeds=[1]")
    assert found["b"].config.train.learning_rate == 2e-5


def test_what_is_laid_over_is_left_alone() -> None:
    data = {"train": {"loss": {"lce": 1}}}
    assert laid_over(data, {("train", "loss", "kl"): 2, ("mine", "depth"): 3}) == {
        "train": {"loss": {"lce": 1, "kl": 2}},
        "mine": {"depth": 3},
    }
    assert data == {"train": {"loss": {"lce": 1}}}


def test_changed_keys_stop_at_what_is_no_section() -> None:
    values = {"train": {"loss": {"lce": 1.0}, "student": {"layers": 2}}, "mine.teachers": {"a": {"model": "m"}}}
    assert dict(changed_keys(values)) == {
        ("train", "loss"): {"lce": 1.0},
        ("train", "student", "layers"): 2,
        ("mine", "teachers"): {"a": {"model": "m"}},
    }


def test_every_fault_of_every_recipe_is_told_at_once() -> None:
    found = faults(
        {
            "typo": {"train.learning_rat": 1e-4, "mine.depth": 0},
            "longer": {"train": {"minutes": 8}},
            "other": {"first_stage.kind": "bm25", "seed": 5, "serve.depth": 9},
            "same": {"train.negatives": 7},
            "twin": {"train.negatives": 5},
            "again": {"train": {"negatives": 5}},
            "whole": {"train": 3},
        }
    )
    assert found[0] == "bakeoff: 9 faults"
    told = "\n".join(found)
    assert "recipes: typo: train.learning_rat: unknown key, did you mean 'learning_rate'?" in told
    assert "recipes: typo: mine.depth:" in told
    assert "recipes: longer: train.minutes: a recipe cannot change the budget, which is the same for all" in told
    assert "recipes: other: first_stage.kind: a recipe cannot change it: all recipes share it" in told
    assert "recipes: other: seed: " in told
    assert "recipes: other: serve.depth: a recipe cannot change it: it has no part in training" in told
    assert "recipes: same: it is the same as base" in told
    assert "recipes: again: it is the same as twin" in told
    assert "recipes: whole: train: " in told


@pytest.mark.parametrize("name", ["minutes", "steps", "epochs", "replay"])
def test_no_recipe_has_a_budget_of_its_own(name: str) -> None:
    (_, told) = faults({"a": {f"train.{name}": 1}})
    assert "cannot change the budget" in told


@pytest.mark.parametrize(
    ("changes", "overrides", "word"),
    [
        ({"train.folds": 5}, (), "train.folds: a recipe cannot change it: each fold is a training more"),
        ({"train.folds": 0}, ("train.folds=3",), "train.folds: a recipe cannot change it"),
        ({"warmup.use": "auto"}, ("warmup={minutes: 5, use: never}",), "warmup.use: a recipe cannot change it: auto"),
        ({"warmup.use": "always"}, ("warmup={minutes: 5, use: auto}",), "warmup.use: a recipe cannot change it: auto"),
        ({"warmup": None}, ("warmup={minutes: 5, use: auto}",), "warmup.use: a recipe cannot change it: auto"),
        ({"warmup": None}, ("warmup={minutes: 5, use: always}",), "a warm-up has a budget besides"),
        ({"warmup.use": "never"}, ("warmup={minutes: 5, use: always}",), "a warm-up has a budget besides"),
        ({"distill.student.folds": 4}, (STUDENT,), "distill.student.folds: a recipe cannot change it: each fold"),
        ({"distill": None}, (STUDENT,), "distill: a recipe cannot change it: a student is a training more"),
        ({"distill.teacher": "train"}, (STUDENT,), "distill.teacher: a recipe cannot change it: to train the teacher"),
    ],
)
def test_no_recipe_trains_more_often_than_others(
    changes: dict[str, Any], overrides: tuple[str, ...], word: str
) -> None:
    (_, told) = faults({"a": changes}, *overrides)
    assert word in told


def test_what_all_recipes_share_may_train_several_times() -> None:
    found = read({"a": {"train.negatives": 3}}, "train.folds=3", "warmup={minutes: 5, use: auto}")
    assert found["a"].config.train.folds == 3


@pytest.mark.parametrize(("key", "value"), [("epochs", "2"), ("replay", "runs/x/train"), ("steps", "0")])
def test_a_budget_that_is_not_equal_is_refused(key: str, value: str) -> None:
    (_, told) = faults({"a": {"train.negatives": 3}}, f"train.{key}={value}")
    assert told.startswith(f"train.{key}=")
    assert "no budget that is equal for all recipes" in told


def test_a_budget_in_tokens_gives_larger_steps_fewer_of_them() -> None:
    found = read({"large": {"train.batch_tokens": 8192}}, "train.epochs=1", tokens=409_600)
    assert [(r.config.train.steps, r.config.train.epochs) for r in found.values()] == [(100, None), (50, None)]
    given = config({"a": {}}, tokens=409_600)
    assert given.bakeoff is not None
    assert budget(given, given.bakeoff) == {"tokens": 409_600}


def test_the_budget_is_that_of_train() -> None:
    given = config({"a": {}})
    assert given.bakeoff is not None
    assert budget(given, given.bakeoff) == {"minutes": 4.0}


def test_the_budget_of_students_is_their_own() -> None:
    given = config({"a": {"distill.student.negatives": 3}}, STUDENT, "train.minutes=null", "train.steps=0")
    assert given.bakeoff is not None
    recipes = read_recipes(given)
    assert budget(given, given.bakeoff) == {"minutes": 3.0}
    assert time_left([("base", 1), ("a", 1)], [], recipes[0]) == 2 * 3 * 60


def test_a_warmup_has_one_equal_budget_too() -> None:
    (_, told) = faults({"a": {"train.negatives": 3}}, "warmup={epochs: 2, use: always}")
    assert told == "warmup.epochs=2 is no budget that is equal for all recipes: give warmup.minutes or warmup.steps"


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        ((STUDENT, "distill.student.minutes=null", "distill.student.epochs=1"), "distill.student.epochs=1.0 is no"),
        ((STUDENT, "distill.teacher=train", "train.minutes=null", "train.epochs=2"), "train.epochs=2.0 is no budget"),
    ],
)
def test_students_have_one_equal_budget_too_and_so_have_teachers(overrides: tuple[str, ...], word: str) -> None:
    (_, told) = faults({"a": {"distill.student.negatives": 3}}, *overrides)
    assert told.startswith(word)
    assert "bakeoff.tokens" not in told


@pytest.mark.parametrize(
    ("split", "overrides", "word"),
    [
        ("test", (), "test set"),
        ("human", ("evaluate.extra_splits=[human]",), "test set"),
        ("held", ("evaluate.split=held",), "test set"),
        ("train", (), "trained on"),
    ],
)
def test_a_split_that_must_not_decide(split: str, overrides: tuple[str, ...], word: str) -> None:
    (_, told) = faults({"a": {"train.negatives": 3}}, *overrides, split=split)
    assert word in told
    assert "choose on dev" in told


def test_a_config_without_a_bake_off_is_told_what_it_lacks() -> None:
    with pytest.raises(UserError, match="no section bakeoff"):
        read_recipes(check_config(BASE))


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"recipes": {}}, "recipes is empty"),
        ({"recipes": {"base": {}}}, "base is the config as it is"),
        ({"recipes": {"../x": {}}}, "name of a folder"),
        ({"recipes": {"x.": {}}}, "name of a folder"),
        ({"recipes": {"x": 3}}, "bakeoff.recipes.x"),
        ({"recipes": {"x": {}}, "seeds": []}, "seeds must be different"),
        ({"recipes": {"x": {}}, "seeds": [1, 1]}, "seeds must be different"),
        ({"recipes": {"x": {}}, "depth": 500}, "bakeoff looks 500 documents deep"),
        ({"recipes": {"x": {}}, "system": "first_stage"}, "bakeoff.system"),
    ],
)
def test_the_section_itself_is_checked(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError) as caught:
        check_config(BASE | {"bakeoff": settings})
    assert word in str(caught.value)
    assert "1 fault" in str(caught.value)


def test_the_example_shows_the_defaults() -> None:
    with resources.as_file(resources.files("secondstage.configs") / "bakeoff.yaml") as path:
        given, shown = load_config(path), yaml.safe_load(path.read_text(encoding="utf-8"))["bakeoff"]
    assert given.bakeoff is not None
    assert given.bakeoff == BakeoffConfig(recipes=given.bakeoff.recipes)
    assert set(shown) == set(BakeoffConfig.model_fields)
    assert [recipe.name for recipe in read_recipes(given)] == ["base", *shown["recipes"]]
