"""mine: from a first stage and a collection to training lists."""

from .stage import Source, mine, share

__all__ = ["Source", "mine", "share"]
