"""The order of a bake-off: which cell comes next, what is known before it, and what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple, Protocol

from ..config.bakeoff import BASE, BakeoffConfig
from ..errors import UserError
from ..progress import say
from .cells import Cell, Cells
from .recipes import Recipe, compared


class Maker(Protocol):
    """What makes cells. Tests have one that does not train."""

    def key(self, recipe: Recipe, seed: int) -> str:
        """A digest of all that a cell is made from, known before it is made."""
        ...

    def make(self, recipe: Recipe, seed: int) -> Cell:
        """Mine, train and score; `UserError` if this recipe cannot be trained."""
        ...

    def discard(self, recipe: str, seed: int) -> None:
        """Delete the reranker of a finished cell."""
        ...


class Outcome(NamedTuple):
    """What came of a bake-off.

    Attributes:
        cells: by recipe, those of all seeds, in their order; a recipe that failed is not among them.
        failed: why, by recipe.
    """

    cells: dict[str, list[Cell]]
    failed: dict[str, str]


def hold(recipes: Sequence[Recipe], settings: BakeoffConfig, cells: Cells, maker: Maker) -> Outcome:
    """Make every cell that is missing, all recipes with one seed before the next: a machine's moods meet them alike.

    A recipe that cannot be trained is left out, with its reason; the base must be.

    Args:
        recipes: the base first.
        settings: of the bake-off.
        cells: those that are finished.
        maker: makes the others.

    Raises:
        UserError: the base cannot be trained, or no recipe beside it.
    """
    found: dict[str, list[Cell]] = {recipe.name: [] for recipe in recipes}
    failed: dict[str, str] = {}
    keys = {(recipe.name, seed): maker.key(recipe, seed) for recipe in recipes for seed in settings.seeds}
    missing = [place for place, key in keys.items() if cells.get(key) is None]
    if len(missing) < len(keys):
        say(f"bakeoff: {len(keys) - len(missing)} of {len(keys)} cells done before")
    for seed in settings.seeds:
        for recipe in (recipe for recipe in recipes if recipe.name not in failed):
            cell = cells.get(keys[recipe.name, seed])
            if cell is None:
                known = [done for key in keys.values() if (done := cells.get(key))]
                left = time_left(missing, known, recipe)
                say(_announced(recipe, seed, len(keys) - len(missing) + 1, len(keys), left))
                missing.remove((recipe.name, seed))
                cell = _made(recipe, seed, maker, failed)
                if cell is None:
                    missing = [place for place in missing if place[0] != recipe.name]
                    continue
                cells.add(cell)
                say(f"  {settings.system} nDCG@10 {cell.mean(settings.system):.4f}")
            # Of another config it may have had another name.
            found[recipe.name].append(cell._replace(recipe=recipe.name))
            if not settings.keep:
                _keep_best(found[recipe.name], settings.system, maker)
    whole = {name: own for name, own in found.items() if name not in failed}
    if len(whole) < 2:
        raise UserError("no recipe beside the base could be trained:\n" + "\n".join(failed.values()))
    return Outcome(whole, failed)


def _made(recipe: Recipe, seed: int, maker: Maker, failed: dict[str, str]) -> Cell | None:
    """A new cell; none if the recipe cannot be trained, and then it is among those that failed, with the reason."""
    try:
        return maker.make(recipe, seed)
    except UserError as error:
        if recipe.name == BASE:
            raise
        failed[recipe.name] = str(error)
        say(f"  {recipe.name} is left out: {error}")
        return None


def best_seed(cells: Sequence[Cell], system: str) -> int:
    """The seed of the best cell; of equal ones the first."""
    return max(cells, key=lambda cell: cell.mean(system)).seed


def time_left(missing: Sequence[tuple[str, int]], known: Sequence[Cell], recipe: Recipe) -> float | None:
    """Seconds that the missing cells will take, as those that are known did; none where nothing is known.

    Mining is left out, as most cells find it done. Before the first cell a budget in minutes is all that is known.
    """
    if known:
        taken: dict[str, list[float]] = {}
        for cell in known:
            taken.setdefault(cell.recipe, []).append(cell.seconds + cell.scoring)
        usual = fmean(cell.seconds + cell.scoring for cell in known)
        return sum(fmean(taken.get(name, [usual])) for name, _ in missing)
    minutes = compared(recipe.config)[1].minutes
    return None if minutes is None else 60 * minutes * len(missing)


def _announced(recipe: Recipe, seed: int, number: int, total: int, left: float | None) -> str:
    rest = "" if left is None else f"; about {in_words(left)} left for all"
    return f"bakeoff: cell {number} of {total}: {recipe.name}, seed {seed}{rest}"


def in_words(seconds: float) -> str:
    """A duration, roughly."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{max(1, round(seconds))} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _keep_best(cells: Sequence[Cell], system: str, maker: Maker) -> None:
    """One reranker of each recipe is kept until the winner is known."""
    kept = best_seed(cells, system)
    for cell in cells:
        if cell.seed != kept:
            maker.discard(cell.recipe, cell.seed)
