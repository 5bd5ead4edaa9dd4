"""The bake-off from config to files: recipes are checked, cells are made, and what they show is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..config import Config
from ..errors import UserError
from ..files import write_json, writing_whole
from ..parallel import workers
from ..plan import claimed
from ..version import __version__
from .cells import Cells
from .contest import Outcome, hold
from .kitchen import COMMON, Kitchen
from .page import render_page
from .recipes import Recipe, read_recipes
from .results import results


def bake_off(config: Config) -> dict[str, Any]:
    """Train every recipe with every seed, and write `results.json`, `report.html` and `winner.yaml`.

    They lie in `bakeoff/` of the config's output, where `cells.jsonl` has a line for each finished training: those are
    not made again.

    Returns:
        What `results.json` holds.

    Raises:
        UserError: a recipe breaks a rule, or the base cannot be trained.
    """
    if workers().size > 1:
        raise UserError("a bake-off is one process: its trainings come one after another")
    recipes = read_recipes(config)
    settings = config.bakeoff
    assert settings is not None  # read_recipes has seen it
    output = Path(config.output).expanduser()
    kitchen = Kitchen(recipes[0].config, settings, output)
    kitchen.check(recipes)
    with claimed(output, COMMON):
        kitchen.prepare()
        outcome = hold(recipes, settings, Cells(kitchen.folder / "cells.jsonl"), kitchen)
        found = results(recipes[0].config, settings, recipes, outcome, kitchen.first_stage(), kitchen.basis)
        found |= {"collection": kitchen.collection.name, "reranker": _kept(kitchen, outcome, found)}
        if not settings.keep:
            _discard_losers(kitchen, recipes, found)
        _write(kitchen.folder, found, recipes)
    return found


def winners_config(found: Mapping[str, Any], recipes: Sequence[Recipe], path: Path) -> str:
    """The winner's whole config as YAML, with a header that says where it comes from."""
    (recipe,) = (recipe for recipe in recipes if recipe.name == found["winner"])
    row = found["recipes"][recipe.name]
    means = ", ".join(f"{system} {values['mean']:.4f}" for system, values in row["systems"].items())
    changes = ", ".join(f"{key}={value!r}" for key, value in recipe.changes.items()) or "none"
    header = [
        f"secondstage run {path}",
        "",
        f"The winner of a bake-off of {len(found['recipes'])} recipes, by secondstage {__version__}: {recipe.name}.",
        f"{found['sentence']}.",
        f"{found['measure']} on {found['split']} of {found.get('collection', 'the collection')} "
        f"({found['queries']} queries, {len(found['seeds'])} seeds): {means}; first stage {found['first_stage']:.4f}.",
        f"Changes: {changes}. All keys are written out, so that later defaults change nothing.",
    ]
    data = recipe.config.model_dump(mode="json")
    del data["bakeoff"]
    lines = [f"# {line}".rstrip() for text in header for line in text.splitlines() or [""]]
    return "\n".join(lines) + "\n" + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _kept(kitchen: Kitchen, outcome: Outcome, found: Mapping[str, Any]) -> str | None:
    """The winner's reranker of its best seed; none if it was deleted when another recipe led."""
    (cell,) = (cell for cell in outcome.cells[found["winner"]] if cell.seed == found["best_seed"])
    path = kitchen.kept(cell)
    return None if path is None else str(path)


def _discard_losers(kitchen: Kitchen, recipes: Sequence[Recipe], found: Mapping[str, Any]) -> None:
    for recipe in recipes:
        for seed in found["seeds"]:
            if (recipe.name, seed) != (found["winner"], found["best_seed"]):
                kitchen.discard(recipe.name, seed)


def _write(folder: Path, found: Mapping[str, Any], recipes: Sequence[Recipe]) -> None:
    texts = {
        "report.html": render_page(found),
        "winner.yaml": winners_config(found, recipes, folder / "winner.yaml"),
    }
    write_json(folder / "results.json", found)
    for name, text in texts.items():
        with writing_whole(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
