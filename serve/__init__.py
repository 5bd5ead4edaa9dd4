"""serve: from a cross-encoder and a first stage to a proven two-stage pipeline in one folder."""

from .bundle import make_bundle
from .pipeline import Answer, Pipeline, Result
from .proof.diagnose import diagnose_bundle
from .proof.evaluate import evaluate_bundle
from .proof.systems import Start
from .proof.versus import compare_paths
from .proof.versus import render as render_comparison
from .verdict import Verdict, write_verdict

__all__ = [
    "Answer",
    "Pipeline",
    "Result",
    "Start",
    "Verdict",
    "compare_paths",
    "diagnose_bundle",
    "evaluate_bundle",
    "make_bundle",
    "render_comparison",
    "write_verdict",
]
