"""mine: from a first stage and a collection to training lists."""

from .stage import mine

__all__ = ["mine"]
