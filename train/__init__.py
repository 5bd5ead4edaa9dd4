"""train: from training lists to a cross-encoder."""

from .stage import share, train
from .task import Task

__all__ = ["Task", "share", "train"]
