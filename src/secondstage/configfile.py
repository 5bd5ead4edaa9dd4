"""Reading a configuration: one YAML and its overrides, checked as a whole before any work, every fault at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from .config import BUDGETS, Config, budget_fault, origin_fault, warmup_budget_fault
from .errors import Faults, UserError

S = TypeVar("S", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, as YAML 1.2 and everyone who types a learning rate have it."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+$"), list("-+.0123456789")
)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `key=value` overrides, and check the whole.

    Raises:
        UserError: the file is missing or no YAML, an override has no `=`, or the values break a rule; all faults are
            in the message, unknown keys with the nearest known one.
    """
    path = Path(path)
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise UserError(f"cannot read the config {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} must hold a mapping with the sections {', '.join(Config.model_fields)}")
    return check_config(override(data, overrides), str(path))


def override(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`data` with each `dotted.key=value` set; values are YAML, and `null` removes a key. `data` is left alone."""
    result: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in data.items()}
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise UserError(f"override {item!r} is not of the form key=value, e.g. train.minutes=4")
        try:
            value = yaml.load(text, Loader=_Loader)
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(f"override {item!r}: the value is not valid YAML: {error}") from None
        _set(result, key.split("."), value)
    return result


# A section's one-line form: `collection: pydocs` means `collection: {source: pydocs}`.
SHORTHANDS = {"collection": "source", "first_stage": "kind"}
# Setting one of a group by an override takes the others' place.
RIVALS = (BUDGETS,)


def _set(data: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    *parents, last = keys
    if not parents and last in SHORTHANDS and isinstance(value, str):
        parents, last = [last], SHORTHANDS[last]
    for name in parents:
        child = data.get(name)
        if isinstance(child, str) and name in SHORTHANDS:
            child = {SHORTHANDS[name]: child}
        data[name] = dict(child) if isinstance(child, Mapping) else {}
        data = data[name]
    for group in RIVALS:
        if last in group and value is not None:
            for rival in group:
                data.pop(rival, None)
    if value is None:
        data.pop(last, None)
    else:
        data[last] = value


def check_config(data: Mapping[str, Any], subject: str = "config") -> Config:
    """Validate a mapping; `UserError` reports every fault at once."""
    found = config_or_faults(data)
    if isinstance(found, Config):
        return found
    faults = Faults(subject)
    for message in found:
        faults.add(message)
    raise UserError(faults.report())


def check_section(kind: type[S], overrides: Sequence[str], subject: str) -> S:
    """A section alone, of `key=value` items; `UserError` reports every fault at once."""
    try:
        return kind.model_validate(_lists_to_tuples(override({}, overrides)))
    except ValidationError as error:
        faults = Faults(subject)
        for fault in error.errors():
            faults.add(_in_words(fault, kind))
        raise UserError(faults.report()) from None


def config_or_faults(data: Mapping[str, Any]) -> Config | list[str]:
    """The validated config, or everything that is wrong with it, in words."""
    full = {
        key: {SHORTHANDS[key]: value} if key in SHORTHANDS and isinstance(value, str) else value
        for key, value in data.items()
    }
    try:
        return Config.model_validate(_lists_to_tuples(full))
    except ValidationError as error:
        messages = [_in_words(fault) for fault in error.errors()]
    # pydantic skips a section's own rule where a key of the section is faulty: every fault is to be told at once.
    distill = full.get("distill")
    student = distill.get("student") if isinstance(distill, Mapping) else None
    rules: tuple[tuple[str, Any, Callable[[Mapping[str, object]], str]], ...] = (
        ("collection", full.get("collection"), origin_fault),
        ("train", full.get("train"), budget_fault),
        ("warmup", full.get("warmup"), warmup_budget_fault),
        ("distill.student", student, budget_fault),
    )
    for section, values, rule in rules:
        message = f"{section}: {rule(values)}" if isinstance(values, Mapping) and rule(values) else ""
        if message and message not in messages:
            messages.append(message)
    return messages


def _lists_to_tuples(value: Any) -> Any:
    """YAML has lists, the frozen sections hold tuples; pydantic's strict mode would not convert them."""
    if isinstance(value, Mapping):
        return {key: _lists_to_tuples(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _in_words(fault: Any, root: Any = Config) -> str:
    location = [str(part) for part in fault["loc"]]
    key = ".".join(location) or "config"
    if fault["type"] == "extra_forbidden":
        known = keys_at(location[:-1], root)
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        return f"{key}: unknown key" + (f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}")
    if fault["type"] == "missing":
        return f"{key}: required"
    message = fault["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"{key}: {message}" if fault["type"] == "value_error" else f"{key}: {message}, not {fault['input']!r}"


def keys_at(location: Sequence[str], root: Any = Config) -> list[str]:
    """The keys of the section that stands there; none where no section does."""
    kind: Any = root
    for name in location:
        if fields := _fields(kind):
            kind = fields[name].annotation if name in fields else None
        else:  # a mapping, whose values are all of one kind
            kind = get_args(kind)[1] if get_origin(kind) in (dict, Mapping) else None
    return list(_fields(kind))


def _fields(kind: Any) -> Mapping[str, Any]:
    """Of a section, or of one that may be missing."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    found = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
    return found[0].model_fields if found else {}
