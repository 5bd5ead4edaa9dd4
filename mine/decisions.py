"""Why a candidate has its role: the words of `Candidate.decision`, which audit and manifest count by."""

from __future__ import annotations

# People, in the qrels or in a reviewed sample.
QRELS = "qrels"
REVIEW = "review"
# The sampler.
SAMPLED = "sampled"
NOT_SAMPLED = "not sampled"
# The rules that find positives nobody labelled, the strongest evidence first.
JUDGED = "judged"
TEACHER = "teacher"
DUPLICATE = "duplicate"
FALSE_NEGATIVE_RULES = (JUDGED, TEACHER, DUPLICATE)
# The policies that forbid a negative, in the order in which they are asked.
WINDOW = "window"
MIN_SCORE = "min score"
MAX_SCORE = "max score"
MARGIN = "margin"
SHARE = "share"
