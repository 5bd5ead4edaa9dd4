"""Progress of long work, on standard error, so that standard output stays for results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .parallel import workers

_words: ContextVar[Callable[[str], str]] = ContextVar("words", default=str)


def say(text: str) -> None:
    """Print one line of news; of several processes, the lead does."""
    if workers().lead:
        print(worded(text), file=sys.stderr, flush=True)


def worded(text: str) -> str:
    """News in the words of the work that it is of, see `speaking`."""
    return _words.get()(text)


@contextmanager
def speaking(words: Callable[[str], str]) -> Iterator[None]:
    """Put what is said meanwhile into other words: one training serves several stages, whose keys have other names."""
    token = _words.set(words)
    try:
        yield
    finally:
        _words.reset(token)


def bar(*, total: int, label: str, unit: str) -> Any:
    """A tqdm bar; in a log file, where it cannot redraw itself, it writes a line every half minute."""
    from tqdm import tqdm

    live = sys.stderr.isatty()
    return tqdm(total=total, desc=label, unit=unit, mininterval=0.2 if live else 30, leave=live, dynamic_ncols=live)
