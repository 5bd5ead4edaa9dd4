"""serve: from a cross-encoder and a first stage to a proven two-stage pipeline in one folder."""

from .answer import Answer, Piece, Result
from .asynchronous import AsyncPipeline
from .bundle import make_bundle
from .cascade import Ask
from .options import SearchOptions
from .packing import pack
from .pipeline import Pipeline
from .proof.diagnose import diagnose_bundle
from .proof.evaluate import evaluate_bundle
from .proof.systems import Start
from .proof.versus import compare_paths
from .proof.versus import render as render_comparison
from .trace import Trace
from .update import update_documents
from .verdict import Verdict, write_verdict

__all__ = [
    "Answer",
    "Ask",
    "AsyncPipeline",
    "Piece",
    "Pipeline",
    "Result",
    "SearchOptions",
    "Start",
    "Trace",
    "Verdict",
    "compare_paths",
    "diagnose_bundle",
    "evaluate_bundle",
    "make_bundle",
    "pack",
    "render_comparison",
    "update_documents",
    "write_verdict",
]
