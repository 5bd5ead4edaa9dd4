"""train: from training lists to a cross-encoder."""

from .stage import train

__all__ = ["train"]
