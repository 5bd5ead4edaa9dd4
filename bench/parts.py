"""The parts of a bench that is chosen by flags: made one after the other, what was made in one line at the end."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from secondstage.progress import say


def make_parts(names: Sequence[str], given: argparse.Namespace, measure: Callable[[str], dict[str, Any]]) -> None:
    """Make the parts whose flags are given, all where none is; the last line is JSON."""
    found: dict[str, Any] = {}
    for name in [name for name in names if getattr(given, name)] or names:
        say(f"{name} …")
        made = measure(name)
        say(json.dumps(made))
        found |= made
    print(json.dumps(found))
