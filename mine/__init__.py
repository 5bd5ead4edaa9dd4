"""mine: from a first stage and a collection to training lists."""

from .source import Source, share
from .stage import mine

__all__ = ["Source", "mine", "share"]
