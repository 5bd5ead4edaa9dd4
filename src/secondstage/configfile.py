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
from pydantic.fields import FieldInfo
from yaml.composer import ComposerError

from .config import BUDGETS, Config, LossTerm, budget_fault, origin_fault, warmup_budget_fault
from .errors import Faults, UserError

S = TypeVar("S", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, as who types a learning rate has it, and no key is there twice: YAML 1.2."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if (key.tag, key.value) in seen:
                twice = f"the key {key.value!r} is there twice, and only the last would count: delete one"
                raise ComposerError("in a mapping", node.start_mark, twice, key.start_mark)
            seen.add((key.tag, key.value))
        return node


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
        return check_config(override(_read(path), overrides), str(path))
    except RecursionError:
        raise UserError(f"{path} is nested without end, e.g. by an alias within what it names: write it out") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise UserError(f"cannot read the config {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} must hold a mapping with the sections {', '.join(Config.model_fields)}")
    return data


def override(data: Mapping[str, Any], overrides: Sequence[str], root: type[BaseModel] = Config) -> dict[str, Any]:
    """`data` with each `dotted.key=value` set; values are YAML. `data` is left alone.

    `null` is what it is in the file where the key's default is another value, e.g. no bound; it removes any other key.

    Raises:
        UserError: an item has no `=` or is no YAML, or its key lies in what is no section.
    """
    result: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in data.items()}
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise UserError(f"override {item!r} is not of the form key=value, e.g. train.minutes=4")
        try:
            value = yaml.load(text, Loader=_Loader)
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(f"override {item!r}: the value is not valid YAML: {error}") from None
        _set(result, key.split("."), value, root)
    return result


# A section's one-line form: `collection: pydocs` means `collection: {source: pydocs}`.
SHORTHANDS = {"collection": "source", "first_stage": "kind"}
# Where a collection comes from: the override of a key takes the place of these. So does one of a budget.
ORIGINS = {"source": ("documents", "queries", "qrels"), "documents": ("source",)}


def _set(data: dict[str, Any], keys: Sequence[str], value: Any, root: type[BaseModel]) -> None:
    *parents, last = keys
    if not parents and last in SHORTHANDS and isinstance(value, str):
        parents, last = [last], SHORTHANDS[last]
    for depth, name in enumerate(parents, 1):
        data[name] = _section(data.get(name), parents[:depth], root)
        data = data[name]
    rivals = ORIGINS.get(last, ()) if parents == ["collection"] else BUDGETS if last in BUDGETS else ()
    for rival in rivals if value is not None else ():
        data.pop(rival, None)
    field = _fields(_kind_at(parents, root)).get(last)
    if value is None and not _is_unusual(field):
        data.pop(last, None)
    else:
        data[last] = value


def _is_unusual(field: FieldInfo | None) -> bool:
    """Whether a key can be none, and is another value by default."""
    return field is not None and type(None) in get_args(field.annotation) and field.default is not None


def _section(value: Any, location: Sequence[str], root: type[BaseModel]) -> dict[str, Any]:
    """What stands there as a section, a copy: a short form is written out."""
    kind = _kind_at(location, root)
    if value is None or isinstance(value, Mapping):
        return dict(value or {})
    if isinstance(value, str) and len(location) == 1 and location[0] in SHORTHANDS:
        return {SHORTHANDS[location[0]]: value}
    if isinstance(value, str) and LossTerm in get_args(kind):
        return {value: {}}
    if isinstance(value, int | float) and kind is LossTerm:
        return {"weight": value}
    key = ".".join(location)
    raise UserError(f"{key} is {value!r}, which has no keys that an override could set: give {key} whole")


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
    return section_of(kind, override({}, overrides, kind), subject)


def section_of(kind: type[S], data: Mapping[str, Any], subject: str) -> S:
    """A section alone, of a mapping; `UserError` reports every fault at once."""
    try:
        return kind.model_validate(_for_pydantic(data, kind))
    except ValidationError as error:
        faults = Faults(subject)
        for fault in error.errors():
            faults.add(_in_words(fault, kind))
        raise UserError(faults.report()) from None


def config_or_faults(data: Mapping[str, Any]) -> Config | list[str]:
    """The validated config, or everything that is wrong with it, in words."""
    full = _for_pydantic(
        {
            key: {SHORTHANDS[key]: value} if key in SHORTHANDS and isinstance(value, str) else value
            for key, value in data.items()
        },
        Config,
    )
    try:
        return Config.model_validate(full)
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


def _for_pydantic(value: Any, kind: Any) -> Any:
    """YAML has lists, the frozen sections hold tuples; pydantic's strict mode would not convert them. And a section
    whose keys are all commented out is null in YAML."""
    if value is None and (_is_mapping(kind) or (isinstance(kind, type) and issubclass(kind, BaseModel))):
        return {}
    if isinstance(value, Mapping):
        return {key: _for_pydantic(item, _kind_at([key], kind)) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _in_words(fault: Any, root: Any = Config) -> str:
    location = [str(part) for part in fault["loc"]]
    key = ".".join(location) or "config"
    if fault["type"] == "extra_forbidden":
        known = keys_at(location[:-1], root)
        near = _initials(location[-1], known) or difflib.get_close_matches(location[-1], known, n=1, cutoff=0.65)
        return f"{key}: unknown key" + (f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}")
    if fault["type"] == "missing":
        return f"{key}: required"
    if fault["type"] == "tuple_type":
        example = f", e.g. [{fault['input']}]" if isinstance(fault["input"], str | int | float) else ""
        return f"{key}: input should be a list{example}, not {fault['input']!r}"
    message = fault["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"{key}: {message}" if fault["type"] == "value_error" else f"{key}: {message}, not {fault['input']!r}"


def _initials(name: str, known: Sequence[str]) -> list[str]:
    """What a name abbreviates: `lr` is learning_rate."""
    return [key for key in known if "_" in key and name == "".join(word[:1] for word in key.split("_"))]


def keys_at(location: Sequence[str], root: Any = Config) -> list[str]:
    """The keys of the section that stands there; none where no section does."""
    return list(_fields(_kind_at(location, root)))


def _kind_at(location: Sequence[str], root: Any) -> Any:
    """The annotation of what stands there; None where nothing can."""
    kind: Any = root
    for name in location:
        if fields := _fields(kind):
            kind = fields[name].annotation if name in fields else None
        else:  # a mapping, whose values are all of one kind
            kind = get_args(kind)[1] if _is_mapping(kind) else None
    return kind


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) in (dict, Mapping)


def _fields(kind: Any) -> Mapping[str, FieldInfo]:
    """Of a section, or of one that may be missing."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    found = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
    return found[0].model_fields if found else {}
