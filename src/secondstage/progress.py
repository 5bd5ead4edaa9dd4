"""Progress of long work, on standard error, so that standard output stays for results."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def say(text: str) -> None:
    """Print one line of news."""
    print(text, file=sys.stderr, flush=True)


def bar(items: Iterable[T] | None = None, *, total: int | None = None, label: str, unit: str = "it") -> Any:
    """A tqdm bar; in a log file, where it cannot redraw itself, it writes a line every half minute."""
    from tqdm import tqdm

    live = sys.stderr.isatty()
    return tqdm(
        items, total=total, desc=label, unit=unit, mininterval=0.2 if live else 30, leave=live, dynamic_ncols=live
    )
