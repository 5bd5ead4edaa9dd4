"""secondstage: from a corpus and some queries to a two-stage search pipeline, with proof that it beats the first stage.

Names are loaded when they are used, so that `import secondstage` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from secondstage.serve import AsyncPipeline, Pipeline, Result, SearchOptions

    from .collection import Collection, Document, Qrel, Query
    from .config import Config
    from .configfile import load_config
    from .errors import UserError
    from .lists import Candidate, TrainingList
    from .measures import evaluate
    from .reranker import Reranker
    from .run import Ranking, Run
    from .significance import compare, compare_all

__all__ = [
    "AsyncPipeline",
    "Candidate",
    "Collection",
    "Config",
    "Document",
    "Pipeline",
    "Qrel",
    "Query",
    "Ranking",
    "Reranker",
    "Result",
    "Run",
    "SearchOptions",
    "TrainingList",
    "UserError",
    "__version__",
    "compare",
    "compare_all",
    "evaluate",
    "load_config",
]

_MODULES = {
    "AsyncPipeline": ".serve",
    "Candidate": ".lists",
    "Collection": ".collection",
    "Config": ".config",
    "Document": ".collection",
    "Pipeline": ".serve",
    "Qrel": ".collection",
    "Query": ".collection",
    "Ranking": ".run",
    "Reranker": ".reranker",
    "Result": ".serve",
    "Run": ".run",
    "SearchOptions": ".serve",
    "TrainingList": ".lists",
    "UserError": ".errors",
    "compare": ".significance",
    "compare_all": ".significance",
    "evaluate": ".measures",
    "load_config": ".configfile",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name], __name__), name)
    globals()[name] = value
    return value
