"""The order of a bake-off, with a maker that does not train: what is made, kept, left out, and never made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from secondstage.bakeoff.cells import Cell, Cells
from secondstage.bakeoff.contest import best_seed, hold, in_words, time_left
from secondstage.bakeoff.recipes import Recipe, read_recipes
from secondstage.config import Config
from secondstage.configfile import check_config
from secondstage.errors import UserError

SEEDS = (13, 14)


def config(**settings: Any) -> Config:
    recipes = {"a": {"train.negatives": 3}, "b": {"train.negatives": 5}}
    base = {"output": "x", "collection": "pydocs", "train": {"minutes": 4}}
    return check_config(base | {"bakeoff": {"recipes": recipes, "seeds": list(SEEDS), **settings}})


class Fake:
    """Gives each cell the value that is written for it, and stops or fails where it is told to."""

    def __init__(self, values: dict[tuple[str, int], float] | None = None, *, stop: int = 99, fails: str = "") -> None:
        self.values, self.stop, self.fails = values or {}, stop, fails
        self.made: list[tuple[str, int]] = []
        self.kept: set[tuple[str, int]] = set()

    def key(self, recipe: Recipe, seed: int) -> str:
        return f"{recipe.config.train.negatives} {seed}"

    def make(self, recipe: Recipe, seed: int) -> Cell:
        if len(self.made) == self.stop:
            raise KeyboardInterrupt
        self.made.append((recipe.name, seed))
        if self.fails == recipe.name and seed == SEEDS[-1]:
            raise UserError(f"{recipe.name} diverged")
        self.kept.add((recipe.name, seed))
        return cell(recipe.name, seed, self.values.get((recipe.name, seed), 0.5), key=self.key(recipe, seed))

    def discard(self, recipe: str, seed: int) -> None:
        self.kept.discard((recipe, seed))


def cell(recipe: str, seed: int, value: float = 0.5, *, key: str = "", seconds: float = 200.0) -> Cell:
    values = {"q1": value, "q2": value}
    systems = {"pipeline": values, "reranked": values}
    return Cell(key or f"{recipe} {seed}", recipe, seed, systems, 9, 99, seconds, 7, 20, 40, "f")


def held(maker: Fake, folder: Path, **settings: Any) -> Any:
    given = config(**settings)
    assert given.bakeoff is not None
    return hold(read_recipes(given), given.bakeoff, Cells(folder / "cells.jsonl"), maker)


ALL = [(name, seed) for seed in SEEDS for name in ("base", "a", "b")]


def test_all_recipes_with_one_seed_come_before_the_next_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = Fake()
    outcome = held(maker, tmp_path)
    assert maker.made == ALL
    assert list(outcome.cells) == ["base", "a", "b"]
    assert all([found.seed for found in cells] == [13, 14] for cells in outcome.cells.values())
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bakeoff")]
    # Before the first cell the budget, 6 × 4 min, then what the cells took: 240 s each.
    assert lines[0] == "bakeoff: cell 1 of 6: base, seed 13; about 24 min left for all"
    assert lines[-1] == "bakeoff: cell 6 of 6: b, seed 14; about 4 min left for all"


@pytest.mark.parametrize("stop", range(6))
def test_a_bake_off_that_was_stopped_goes_on_with_the_cell_that_is_missing(tmp_path: Path, stop: int) -> None:
    values = {place: i / 10 for i, place in enumerate(ALL)}
    whole = held(Fake(values), tmp_path / "whole")
    first, second = Fake(values, stop=stop), Fake(values)
    with pytest.raises(KeyboardInterrupt):
        held(first, tmp_path)
    assert held(second, tmp_path) == whole
    assert first.made + second.made == ALL
    third = Fake(values)
    assert held(third, tmp_path) == whole
    assert third.made == []


def test_a_cell_of_the_same_making_is_known_under_any_name(tmp_path: Path) -> None:
    held(Fake(), tmp_path)
    maker = Fake()
    outcome = held(maker, tmp_path, recipes={"renamed": {"train.negatives": 3}, "new": {"train.negatives": 9}})
    assert maker.made == [("new", 13), ("new", 14)]
    assert [found.recipe for found in outcome.cells["renamed"]] == ["renamed", "renamed"]


def test_of_each_recipe_the_best_reranker_is_kept_until_the_winner_is_known(tmp_path: Path) -> None:
    maker = Fake({("base", 13): 0.6, ("base", 14): 0.7, ("a", 13): 0.7, ("a", 14): 0.6})
    held(maker, tmp_path)
    assert maker.kept == {("base", 14), ("a", 13), ("b", 13)}
    maker = Fake()
    held(maker, tmp_path / "all", keep=True)
    assert maker.kept == set(ALL)


def test_a_recipe_that_cannot_be_trained_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = held(Fake(fails="a"), tmp_path)
    assert list(outcome.cells) == ["base", "b"]
    assert outcome.failed == {"a": "a diverged"}
    assert "a is left out: a diverged" in capsys.readouterr().err
    # It is tried again, as what was wrong may be mended; what was finished of it is not made again.
    maker = Fake()
    assert list(held(maker, tmp_path).cells) == ["base", "a", "b"]
    assert maker.made == [("a", 14)]


def test_the_base_must_be_trained_and_one_beside_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="base diverged"):
        held(Fake(fails="base"), tmp_path)
    with pytest.raises(UserError, match="no recipe beside the base could be trained:\na diverged"):
        held(Fake(fails="a"), tmp_path, recipes={"a": {"train.negatives": 3}})


def test_the_time_left_is_that_of_a_recipe_s_own_cells_where_there_are_some() -> None:
    recipe = Recipe("a", {}, config())
    known = [cell("a", 13, seconds=60), cell("base", 13, seconds=260)]
    assert time_left([("a", 14), ("b", 13)], known, recipe) == 100 + (100 + 300) / 2
    assert time_left([("a", 14), ("b", 13)], [], recipe) == 2 * 240
    steps = check_config({"output": "x", "collection": "pydocs", "train": {"steps": 4}})
    assert time_left([("a", 14)], [], Recipe("a", {}, steps)) is None


def test_of_equal_seeds_the_first_is_the_best() -> None:
    assert best_seed([cell("a", 13, 0.5), cell("a", 14, 0.6), cell("a", 15, 0.6)], "pipeline") == 14


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (29, "29 s"), (61, "1 min"), (7140, "119 min"), (9000, "2 h 30 min")]
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert in_words(seconds) == text
