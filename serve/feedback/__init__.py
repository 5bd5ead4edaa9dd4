"""Feedback: what people said of search results, as qrels and training lists for the next training."""

from .make import make_feedback

__all__ = ["make_feedback"]
