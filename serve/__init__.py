"""serve: from a cross-encoder and a first stage to a proven two-stage pipeline in one folder."""

from .bundle import make_bundle
from .evaluate import evaluate_bundle
from .pipeline import Pipeline, Result

__all__ = ["Pipeline", "Result", "evaluate_bundle", "make_bundle"]
