"""train: from training lists to a cross-encoder."""

from .stage import Task, share, train

__all__ = ["Task", "share", "train"]
