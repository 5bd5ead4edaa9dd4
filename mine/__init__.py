"""mine: from a first stage and a collection to training lists."""

from .source import Source, share
from .stage import mine
from .teach import share_teaching, teach

__all__ = ["Source", "mine", "share", "share_teaching", "teach"]
