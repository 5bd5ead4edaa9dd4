"""Queries made from documents, for collections with few or none."""

from .stage import Synthesized, held_out_documents, synthesize

__all__ = ["Synthesized", "held_out_documents", "synthesize"]
