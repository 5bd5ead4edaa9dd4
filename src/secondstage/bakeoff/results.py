"""What the cells of a bake-off show: means, spread over seeds, paired comparisons with the base, cost, the winner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any

from ..chart import finite
from ..config import Config
from ..config.bakeoff import BASE, BakeoffConfig
from ..leakage import ENOUGH, Basis
from ..measures import Values, mean
from ..significance import compare_all
from ..table import sentence
from .cells import Cell
from .contest import Outcome, best_seed
from .recipes import Recipe, budget, compared

MEASURE = "nDCG@10"
SYSTEMS = ("reranked", "pipeline")
# So many queries show very little.
FEW = 30
# Costs in tokens that differ by less are the same.
ALIKE = 1.1


def results(
    config: Config,
    settings: BakeoffConfig,
    recipes: Sequence[Recipe],
    outcome: Outcome,
    first_stage: Values,
    basis: Basis,
) -> dict[str, Any]:
    """What `results.json` holds, as JSON: numbers that are not finite are null.

    Args:
        config: of the base: budget, confidence, resamples and seed.
        settings: of the bake-off.
        recipes: the base first.
        outcome: the cells of all seeds.
        first_stage: its values by query.
        basis: what the queries that decide were drawn from.
    """
    system = settings.system
    values = {name: over_seeds([cell.values[system] for cell in cells]) for name, cells in outcome.cells.items()}
    rows = differences(values, config)
    best = max(values, key=lambda name: (mean(values[name]), name == BASE))
    winner = best if best != BASE and rows[best]["delta"] > 0 else BASE
    found = {
        "measure": MEASURE,
        "system": system,
        "split": settings.split,
        "queries": len(values[BASE]),
        "depth": settings.depth,
        "seeds": list(settings.seeds),
        "budget": budget(config, settings),
        "confidence": config.evaluate.confidence,
        "first_stage": mean(first_stage),
        "detectable": _median([row["detectable"] for row in rows.values()]),
        "winner": winner,
        "best_seed": best_seed(outcome.cells[winner], system),
        "recipes": {
            recipe.name: {"changes": recipe.changes, **_row(outcome.cells[recipe.name])}
            | {"difference": rows.get(recipe.name)}
            for recipe in recipes
            if recipe.name in outcome.cells
        },
        "failed": outcome.failed,
        "given_away": basis.counts,
    }
    return found | {"sentence": verdict(found), "notes": [*_notes(found, recipes), *_spared(basis)]}


def differences(values: Mapping[str, Values], config: Config) -> dict[str, dict[str, Any]]:
    """Every recipe against the base, paired over the queries, p values adjusted for all of them (Holm 1979)."""
    confidence = config.evaluate.confidence
    compared = compare_all(
        {name: own for name, own in values.items() if name != BASE},
        values[BASE],
        confidence=confidence,
        resamples=config.evaluate.resamples,
        seed=config.seed,
    )
    return {
        name: _finite(result._asdict() | {"queries": result.queries, "detectable": result.detectable})
        | {"system": name, "baseline": BASE, "measure": MEASURE, "real": bool(result.p_holm < 1 - confidence)}
        for name, result in compared.items()
    }


def over_seeds(values: Sequence[Values]) -> Values:
    """Each query's mean over the seeds."""
    return {query_id: fmean(each[query_id] for each in values) for query_id in values[0]}


def verdict(found: Mapping[str, Any]) -> str:
    """Who wins, and whether that is shown, in words."""
    winner, rows = found["winner"], found["recipes"]
    if winner == BASE:
        return f"{BASE} wins: no recipe has a better mean"
    return f"{winner} wins: {sentence(rows[winner]['difference'], found['confidence'])}"


def _row(cells: Sequence[Cell]) -> dict[str, Any]:
    """The systems of one recipe, and what a training cost on average."""
    systems = {}
    for system in SYSTEMS:
        means = [cell.mean(system) for cell in cells]
        systems[system] = {"mean": fmean(means), "sd": stdev(means) if len(means) > 1 else None, "by_seed": means}
    costs = {name: fmean(getattr(cell, name) for cell in cells) for name in ("seconds", "prepared", "steps", "tokens")}
    scoring = sum(cell.scoring for cell in cells)
    speed = sum(cell.pairs for cell in cells) / scoring if scoring > 0 else None
    return {"systems": systems, "cost": costs | {"pairs_per_second": speed}}


def _spared(basis: Basis) -> Iterator[str]:
    """What training gives away of the split, where it does."""
    if not (given_away := basis.counts["any"]):
        return
    texts = basis.counts["same_text"] + basis.counts["near_duplicate"]
    why = f"{texts} have nearly the text of a training query, {basis.counts['document']} share a relevant document"
    yield f"training gives {given_away} queries of the split away ({why}): " + (
        f"these do not decide, only the other {basis.free}"
        if basis.enough
        else f"the other {basis.free} are fewer than {ENOUGH}, so these decide too, and who learns by heart is ahead"
    )


def _choosing(recipe: Recipe) -> dict[str, Any]:
    """What a training looks at dev with, by key."""
    section, training = compared(recipe.config)
    keys = ("evaluations", "patience", "average", "dev_queries")
    return {f"{section}.{key}": getattr(training, key) for key in keys}


def _chooses(recipe: Recipe) -> bool:
    """Whether a training chooses anything on dev: not with a single evaluation, nor where folds chose before."""
    _, training = compared(recipe.config)
    return training.evaluations > 1 and not training.folds


def _chosen_on_dev(recipes: Sequence[Recipe], queries: int) -> str:
    """That training chose on the queries that decide, and whether for all recipes alike."""
    base, *others = [_choosing(recipe) for recipe in recipes]
    (*_, limit), unlike = base, {}
    for recipe, own in zip(recipes[1:], others, strict=True):
        if keys := [key for key in {**base, **own} if base.get(key) != own.get(key)]:
            unlike[recipe.name] = f"{recipe.name} ({', '.join(keys)})"
    chosen = f"training chose its checkpoint on up to {min(base[limit], queries)} of these queries ({limit})"
    if not unlike:
        return (
            f"{chosen}, for all recipes alike: the means are somewhat too good, and only the test split proves anything"
        )
    return (
        f"{chosen} in {BASE}, but not for all recipes alike: {', '.join(unlike.values())}; who chooses among more "
        "looks better than it is, and only the test split proves anything"
    )


def _notes(found: Mapping[str, Any], recipes: Sequence[Recipe]) -> Iterator[str]:
    seeds, queries = len(found["seeds"]), found["queries"]
    if found["system"] == "pipeline":
        yield (
            "the pipeline is the first stage and the reranker half and half (z-scores): the weight that a bundle gets "
            "is chosen on dev, which decides here"
        )
    compared_here = [recipe for recipe in recipes if recipe.name in found["recipes"]]
    if found["split"] == "dev" and any(map(_chooses, compared_here)):
        yield _chosen_on_dev(compared_here, queries)
    if seeds == 1:
        yield "one seed does not show how much a recipe varies: differences may be chance, whatever their interval"
    else:
        yield f"intervals and p are over queries, each the mean of {seeds} seeds; how much seeds differ stands beside"
    ahead = [
        one > other for one, other in zip(*(_by_seed(found, name) for name in (found["winner"], BASE)), strict=True)
    ]
    if found["winner"] != BASE and seeds > 1:
        yield f"{found['winner']} is ahead of {BASE} with {sum(ahead)} of {seeds} seeds"
    if (best := found["recipes"][found["winner"]]["systems"][found["system"]]["mean"]) < found["first_stage"]:
        yield (
            f"the winner is below the first stage ({best:.4f} against {found['first_stage']:.4f}): none of these "
            "recipes helps yet"
        )
    if queries < FEW:
        yield f"{queries} queries show very little"
    costs = {name: row["cost"]["tokens"] for name, row in found["recipes"].items()}
    why = (
        "bakeoff.tokens counts full steps of train.batch_tokens, and a step holds whole lists, more or less full"
        if "tokens" in found["budget"]
        else "a budget in steps is equal only for steps that are; "
        + ("give minutes" if recipes[0].config.distill else "bakeoff.tokens allows for train.batch_tokens")
    )
    yield from (
        f"{name} took {tokens / costs[BASE]:.1f} times the tokens of {BASE}: {why}"
        for name, tokens in costs.items()
        if "minutes" not in found["budget"] and costs[BASE] and not 1 / ALIKE <= tokens / costs[BASE] <= ALIKE
    )
    yield from (f"{name} is left out: {reason}" for name, reason in found["failed"].items())


def _by_seed(found: Mapping[str, Any], name: str) -> Sequence[float]:
    values: Sequence[float] = found["recipes"][name]["systems"][found["system"]]["by_seed"]
    return values


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _finite(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value if finite(value) else None for key, value in record.items()}
