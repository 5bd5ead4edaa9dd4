"""The harvest's inner half: imports one library and writes what it documents. Runs only in a process of its own.

Nothing here is imported by the rest of the package: a module that is imported may print, warn, exit or hang, and only
the process that `harvest` starts may suffer from it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from .text import make_record, rank

Classes = dict[int, tuple[str, type]]
"""The public classes by id, each with its public name."""

MAX_DEFAULT = 40
SIMPLE = (bool, int, float, str, type(None))


def main(out: str, top: str, *modules: str) -> None:
    """Write one JSON line per record to `out`, and one per module that could not be imported.

    Args:
        out: the file to write.
        top: the library's name; "stdlib" for the standard library.
        modules: what to import.
    """
    warnings.simplefilter("ignore")
    loaded: dict[str, ModuleType] = {}
    lines: list[dict[str, Any]] = []
    for name in modules:
        try:
            loaded[name] = importlib.import_module(name)
        except BaseException as error:
            # SystemExit and KeyboardInterrupt too: no module may end the harvest.
            lines.append({"failed": name, "error": type(error).__name__})
    for name, signature, doc in unique(entries(loaded, top)):
        record = make_record(name, top, signature, doc)
        if record is not None:
            lines.append(record._asdict())
    with Path(out).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


class Entry(NamedTuple):
    """One documented object as it was found."""

    name: str
    signature: str
    doc: str


def unique(found: Iterable[Entry]) -> list[Entry]:
    """One entry per docstring: aliases and inherited or copied docstrings go to the shortest name."""
    best: dict[str, Entry] = {}
    for entry in found:
        known = best.setdefault(entry.doc, entry)
        if rank(entry.name) < rank(known.name):
            best[entry.doc] = entry
    return sorted(best.values())


def entries(modules: dict[str, ModuleType], top: str) -> Iterator[Entry]:
    """Name, signature and raw docstring of every public module, class, function and method."""
    classes: Classes = {}
    for module_name, module in sorted(modules.items()):
        if module_name != "builtins":
            yield from _entry(module_name, module)
        for attribute, value in _public(module, module_name, top):
            name = _shortest(module_name, attribute, value)
            if isinstance(value, type):
                known = classes.get(id(value))
                if known is None or rank(name) < rank(known[0]):
                    classes[id(value)] = (name, value)
            else:
                yield from _entry(name, value)
    for name, cls in sorted(classes.values(), key=lambda item: item[0]):
        yield from _entry(name, cls)
        if BaseException not in cls.__mro__:
            yield from _members(name, cls, classes)


def _public(module: ModuleType, name: str, top: str) -> Iterator[tuple[str, Any]]:
    """The public attributes: what `__all__` names, or else what has no underscore and was defined in the library."""
    listed = _get(module, "__all__")
    listed = listed if isinstance(listed, (list, tuple)) else None
    names = {name for name in (vars(module) if listed is None else listed) if isinstance(name, str)}
    for attribute in sorted(names):
        if attribute.startswith("_"):
            continue
        value = _get(module, attribute)
        if value is None or isinstance(value, ModuleType) or not _documentable(value):
            continue
        if listed is not None or _is_from(value, name, top):
            yield attribute, value


def _is_from(value: Any, module: str, top: str) -> bool:
    """Whether `value` was defined in `module`, below it, or in its private twin, and not just imported there."""
    home = _get(value, "__module__")
    if not isinstance(home, str):
        return top != "stdlib"
    home, module = (re.sub(r"(^|[.])_+", r"\1", name) for name in (home, module))
    if home == module or home.startswith(f"{module}."):
        return True
    # `torch._C._linalg` is the twin of `torch.linalg`.
    return home.split(".")[0] == module.split(".")[0] and home.rsplit(".", 1)[-1] == module.rsplit(".", 1)[-1]


def _documentable(value: Any) -> bool:
    """A class, a routine, or a callable instance with a docstring of its own (a ufunc, a distribution)."""
    if isinstance(value, type) or inspect.isroutine(value):
        return True
    return callable(value) and _get(value, "__doc__") != _get(type(value), "__doc__")


def _shortest(module: str, attribute: str, value: Any) -> str:
    """The name under the shallowest public package that offers the same object under the same name."""
    if module == "builtins":
        return attribute
    parts = module.split(".")
    for depth in range(1, len(parts)):
        package = sys.modules.get(".".join(parts[:depth]))
        if package is not None and _get(package, attribute) is value:
            return ".".join([*parts[:depth], attribute])
    return f"{module}.{attribute}"


def _members(prefix: str, cls: type, classes: Classes, *, nested: bool = False) -> Iterator[Entry]:
    """The public methods and properties that `cls` defines or has from a private base of the same library."""
    for attribute in sorted(set(dir(cls))):
        if attribute.startswith("_") or _is_inherited(attribute, cls, classes):
            continue
        value = _get(cls, attribute)
        if isinstance(value, type):
            # An accessor such as `pandas.Series.str`: the class attribute is the accessor's class.
            if not nested and id(value) not in classes and _package(value) == _package(cls):
                yield from _members(f"{prefix}.{attribute}", value, classes, nested=True)
        elif isinstance(value, property) or inspect.isroutine(value) or inspect.isdatadescriptor(value):
            yield from _entry(f"{prefix}.{attribute}", value)


def _is_inherited(attribute: str, cls: type, classes: Classes) -> bool:
    """Whether a public base documents the attribute already, or it comes from another package altogether."""
    owner = next((base for base in cls.__mro__ if attribute in vars(base)), cls)
    if owner is cls:
        return False
    if _package(owner) != _package(cls):
        return True
    return any(id(base) in classes and owner in base.__mro__ for base in cls.__mro__[1:])


def _package(cls: type) -> str:
    return str(cls.__module__).lstrip("_").split(".")[0]


def _entry(name: str, value: Any) -> Iterator[Entry]:
    doc = _get(value, "__doc__")
    if isinstance(doc, str) and doc.strip():
        signature = "" if isinstance(value, (ModuleType, property)) else render_signature(value)
        yield Entry(name, signature, doc)


def render_signature(value: Callable[..., Any]) -> str:
    """`(a, b=1, *, c=...)`: names and simple defaults, nothing that depends on the machine; empty if there is none."""
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except BaseException:
        return ""
    bare = [
        parameter.replace(
            annotation=inspect.Parameter.empty,
            default=parameter.default if parameter.default is inspect.Parameter.empty else _Shown(parameter.default),
        )
        for parameter in parameters
        if not (parameter.name in ("self", "cls") and parameter is parameters[0])
    ]
    try:
        return str(inspect.Signature(bare))
    except ValueError:
        return ""


class _Shown:
    """A default value whose `repr` says nothing about the machine."""

    def __init__(self, value: Any) -> None:
        text = repr(value) if type(value) in SIMPLE else "..."
        local = isinstance(value, str) and ("/" in value or "\\" in value)
        self.text = "..." if local or len(text) > MAX_DEFAULT else text

    def __repr__(self) -> str:
        return self.text


def _get(value: Any, attribute: str) -> Any:
    try:
        return getattr(value, attribute, None)
    except BaseException:
        return None
