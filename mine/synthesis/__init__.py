"""Queries made from documents, for collections with few or none."""

from .generator import name
from .stage import held_out_documents, synthesize

__all__ = ["held_out_documents", "name", "synthesize"]
