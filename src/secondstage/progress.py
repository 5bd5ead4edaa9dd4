"""Progress of long work, on standard error, so that standard output stays for results."""

from __future__ import annotations

import sys
from typing import Any

from .parallel import workers


def say(text: str) -> None:
    """Print one line of news; of several processes, the lead does."""
    if workers().lead:
        print(text, file=sys.stderr, flush=True)


def bar(*, total: int, label: str, unit: str) -> Any:
    """A tqdm bar; in a log file, where it cannot redraw itself, it writes a line every half minute."""
    from tqdm import tqdm

    live = sys.stderr.isatty()
    return tqdm(total=total, desc=label, unit=unit, mininterval=0.2 if live else 30, leave=live, dynamic_ncols=live)
