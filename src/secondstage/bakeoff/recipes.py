"""The recipes of a bake-off: the config as it is, and with each recipe's changes; all checked before any work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..config import BUDGETS, Config, TrainConfig
from ..config.bakeoff import BASE, BakeoffConfig
from ..configfile import config_or_faults, keys_at, override
from ..errors import Faults, UserError

Path = tuple[str, ...]
"""A key with those of the sections around it."""

SHARED = "all recipes share it, so that only what they are compared in differs"
NO_PART = "it has no part in training"
# Why a recipe may not change a section.
FIXED = {
    "output": SHARED,
    "seed": f"{SHARED}: bakeoff.seeds are those of mining and training",
    "collection": SHARED,
    "first_stage": SHARED,
    "serve": NO_PART,
    "evaluate": NO_PART,
    "bakeoff": SHARED,
}


class Recipe(NamedTuple):
    """One contestant.

    Attributes:
        name: of it.
        changes: what it changes, by dotted key.
        config: with these changes, and the budget that all have.
    """

    name: str
    changes: dict[str, Any]
    config: Config


def read_recipes(config: Config) -> list[Recipe]:
    """The base and every recipe, in this order.

    Raises:
        UserError: there is no bake-off in the config, the budget is not the same for all, or recipes break a rule; all
            faults of all recipes are in the message.
    """
    settings = config.bakeoff
    if settings is None:
        raise UserError("the config has no section bakeoff, which names the recipes: see configs/bakeoff.yaml")
    faults = Faults("bakeoff")
    for message in _base_faults(config, settings):
        faults.add(message)
    data = config.model_dump(mode="json") | {"bakeoff": None}
    found = [Recipe(BASE, {}, _with_budget(config.model_copy(update={"bakeoff": None}), settings))]
    for name, values in settings.recipes.items():
        changes = dict(changed_keys(values))
        made = _faults_of(changes) or config_or_faults(laid_over(data, changes))
        if isinstance(made, Config):
            recipe = Recipe(name, {".".join(path): value for path, value in changes.items()}, made)
            recipe = recipe._replace(config=_with_budget(made, settings))
            made = _multiplied(found[0].config, made)
            made += [f"it is the same as {other.name}" for other in found if other.config == recipe.config]
            found += [] if made else [recipe]
        for message in made:
            faults.add(f"recipes: {name}: {message}")
    faults.raise_if_any()
    return found


def changed_keys(values: Mapping[str, Any], inside: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The keys that a recipe changes, each with its new value; nested sections and dotted keys mean the same.

    What is no section, such as the losses by name, is replaced as a whole.
    """
    for key, value in values.items():
        path = (*inside, *str(key).split("."))
        if isinstance(value, Mapping) and value and keys_at(path):
            yield from changed_keys(value, path)
        else:
            yield path, value


def laid_over(data: Mapping[str, Any], changes: Mapping[Path, Any]) -> dict[str, Any]:
    """`data` with each change made; a null is a value here, as everywhere in a YAML file. `data` is left alone."""
    result = dict(data)
    for (*parents, last), value in changes.items():
        inner = result
        for name in parents:
            child = inner.get(name)
            inner[name] = dict(child) if isinstance(child, Mapping) else {}
            inner = inner[name]
        inner[last] = value
    return result


def compared(config: Config) -> tuple[str, TrainConfig]:
    """The training whose reranker is compared, and the section that it is in: a student's, if there is one."""
    return ("train", config.train) if config.distill is None else ("distill.student", config.distill.student)


def budget(config: Config, settings: BakeoffConfig) -> dict[str, float]:
    """The one budget of all recipes, by its name."""
    if settings.tokens is not None:
        return {"tokens": settings.tokens}
    _, training = compared(config)
    return {name: value for name in ("minutes", "steps") if (value := getattr(training, name)) is not None}


def _with_budget(config: Config, settings: BakeoffConfig) -> Config:
    """A budget in tokens becomes one in steps: a recipe of larger steps makes fewer."""
    if settings.tokens is None:
        return config
    steps = max(1, round(settings.tokens / config.train.batch_tokens))
    made = config_or_faults(override(config.model_dump(mode="json"), [f"train.steps={steps}"]))
    assert isinstance(made, Config), made
    return made


def _base_faults(config: Config, settings: BakeoffConfig) -> Iterator[str]:
    tests = {"test", config.evaluate.split, *config.evaluate.extra_splits} - {"dev"}
    if settings.split in tests:
        yield (
            f"split: {settings.split!r} is a test set: a recipe that is chosen on it looks better there than it is, "
            "and nothing is left to prove it on; choose on dev"
        )
    if settings.split == "train":
        yield "split: recipes are trained on 'train', so it cannot tell them apart; choose on dev"
    if settings.tokens is not None and config.distill is not None:
        yield "tokens: they would be the teacher's, not the student's: give distill.student minutes or steps"
    if settings.tokens is None:
        section, training = compared(config)
        yield from _unequal(section, training, "" if config.distill else ", or bakeoff.tokens")
    if config.distill is not None and config.distill.trains and config.train.steps != 0:  # 0 is none of all teachers
        yield from _unequal("train", config.train)
    if config.warms and config.warmup is not None and config.warmup.epochs is not None:
        yield (
            f"warmup.epochs={config.warmup.epochs:g} is no budget that is equal for all recipes: give "
            "warmup.minutes or warmup.steps"
        )


def _unequal(section: str, training: TrainConfig, more: str = "") -> Iterator[str]:
    """Whether the budget of a training may come to more for one recipe than for another."""
    if not training.minutes and not training.steps:
        name = next(name for name in BUDGETS if getattr(training, name) is not None)
        yield (
            f"{section}.{name}={getattr(training, name)} is no budget that is equal for all recipes: give "
            f"{section}.minutes or {section}.steps above 0{more}"
        )


# By key, why a recipe that changes it would train more or less than the base.
MORE = {
    "train.folds": "each fold is a training more, with the whole budget",
    "warmup.use": "auto trains from both starts, each with the whole budget, and a warm-up has a budget besides",
    "distill": "a student is a training more, with a budget of its own",
    "distill.teacher": "to train the teacher is a training more, with a budget of its own",
    "distill.student.folds": "each fold is a training more, with the whole budget",
}


def _multiplied(base: Config, recipe: Config) -> list[str]:
    """Keys by which a recipe trains more or less often than the base."""

    def often(config: Config) -> dict[str, int]:
        warmup, distill = config.warmup, config.distill
        use = "never" if warmup is None else warmup.use
        found = {"train.folds": config.train.folds, "warmup.use": ("never", "always", "auto").index(use)}
        if distill is not None:
            found |= {"distill.teacher": distill.trains, "distill.student.folds": distill.student.folds}
        return found | {"distill": distill is not None}

    one, other = often(base), often(recipe)
    return [
        f"{key}: a recipe cannot change it: {why}, and the budget is the same for all; change it in the config, for "
        "all recipes"
        for key, why in MORE.items()
        if key in one and key in other and one[key] != other[key]
    ]


def _faults_of(changes: Mapping[Path, Any]) -> list[str]:
    found = [f"{'.'.join(path)}: a recipe cannot change it: {FIXED[path[0]]}" for path in changes if path[0] in FIXED]
    found += [
        f"{'.'.join(path)}: a recipe cannot change the budget, which is the same for all"
        for path in changes
        if path[0] in ("train", "warmup", "distill") and path[-1] in BUDGETS
    ]
    return found
