"""Queries made from documents, for collections with few or none."""

from .stage import Synthesized, synthesize

__all__ = ["Synthesized", "synthesize"]
