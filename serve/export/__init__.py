"""Exports: a reranker as the engines and servers of others read it, checked against the bundle's own scores."""
