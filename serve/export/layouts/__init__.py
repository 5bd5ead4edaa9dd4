"""Layouts: an exported reranker as one engine or server reads it, a file each."""
