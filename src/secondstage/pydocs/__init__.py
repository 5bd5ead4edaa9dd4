"""The built-in collection: the documentation of the Python libraries that are installed anyway.

It needs no download, so that a first run, the tests and the demo work offline; and it is large and real enough
(thousands of documents, questions that people ask) for a reranker to be trained and measured on it.
"""

from .source import PydocsSource

__all__ = ["PydocsSource"]
