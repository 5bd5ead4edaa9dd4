"""Exports: a reranker as the engines and servers of others read it, checked against the bundle's own scores."""

from .command import export_bundle

__all__ = ["export_bundle"]
