"""Whether scores can be believed: probabilities that hold by construction, and answerability by arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from secondstage.answerability import Answerability
from secondstage.calibration import Calibration, sigmoid
from secondstage.collection import Qrels
from secondstage.run import Run, rank
from secondstage.serve import Pipeline
from secondstage.serve.cascade import Runs
from secondstage.serve.choices import Barren, label
from secondstage.serve.proof.confidence import HISTOGRAM_BINS, answerability, calibration, histogram

from .hidden import without_answers

Floats = npt.NDArray[np.float64]


def calibrated(found: Calibration | None) -> Pipeline:
    """All that is looked at of a pipeline."""
    return cast(Pipeline, cast(Any, SimpleNamespace(reranker=SimpleNamespace(calibration=found))))


def as_run(scores: Mapping[str, Sequence[float]]) -> Run:
    return Run(
        "reranked",
        {q: rank([f"d{i}" for i in range(len(row))], list(row), ["bm25"] * len(row)) for q, row in scores.items()},
    )


def drawn(probability: Any, queries: int = 1500, size: int = 12) -> tuple[Run, Qrels]:
    """Lists of random logits; each document is relevant with the probability that its logit has by `probability`."""
    rng = np.random.default_rng(5)
    logits = rng.normal(-1, 2, (queries, size)).astype(np.float32)
    relevant = rng.random((queries, size)) < probability(logits.astype(np.float64))
    run = as_run({f"q{q}": row.tolist() for q, row in enumerate(logits)})
    qrels: Qrels = {f"q{q}": {f"d{i}": int(hit) for i, hit in enumerate(row)} for q, row in enumerate(relevant)}
    return run, qrels


# --- calibration


def test_logits_that_are_true_to_their_word_have_little_error() -> None:
    run, qrels = drawn(sigmoid)
    found = calibration(run, qrels, calibrated(Calibration("temperature")), seed=13)
    assert found is not None
    assert found["ece"] == found["ece_raw"] < 0.01
    assert found["ece_top"] < 0.03
    assert (found["method"], found["basis"], found["fitted_on"]) == ("temperature", "score", "dev")
    assert found["pairs"] == sum(row["count"] for row in found["bins"]) == 1500 * 12
    assert all(abs(row["probability"] - row["relevant"]) < 0.06 for row in found["bins"])


@pytest.mark.parametrize("own", [Calibration("platt", 0.5, -1.0), Calibration("isotonic", x=(-2.0, 4.0), y=(0.1, 0.9))])
def test_the_rerankers_own_calibration_is_used(own: Calibration) -> None:
    run, qrels = drawn(own.probability)
    found = calibration(run, qrels, calibrated(own), seed=13)
    other = calibration(run, qrels, calibrated(Calibration("platt", 2.0, 1.0)), seed=13)
    assert found is not None
    assert other is not None
    assert (found["method"], found["basis"]) == (own.method, "score")
    assert found["ece"] < 0.02
    assert min(found["ece_raw"], other["ece"]) > 0.05
    assert found["ece_raw"] == other["ece_raw"]


def test_a_calibration_of_shares_in_the_list_sees_no_shift() -> None:
    """One document of each list is relevant, drawn by the softmax; then every list is shifted by something else."""
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 1.5, (1500, 5))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    relevant = [int(rng.choice(5, p=row)) for row in shares]
    run = as_run({f"q{q}": (row + rng.normal(0, 10)).tolist() for q, row in enumerate(logits)})
    qrels: Qrels = {f"q{q}": {f"d{i}": 1} for q, i in enumerate(relevant)}
    grid = np.linspace(-20, 0, 400)
    own = Calibration("isotonic", x=tuple(grid.tolist()), y=tuple(np.exp(grid).tolist()), basis="list")
    found = calibration(run, qrels, calibrated(own), seed=13)
    assert found is not None
    assert (found["method"], found["basis"]) == ("isotonic", "list")
    assert found["ece"] < 0.02
    assert found["ece_raw"] > 0.2


def test_a_calibration_from_elsewhere_is_told_apart() -> None:
    """Without dev, the reranker's own calibration is that of another collection: here it is far off, and said to be."""
    run, qrels = drawn(sigmoid, 300)
    found = calibration(run, qrels, calibrated(Calibration("platt", 1.0, -4.0)), seed=13, on_dev=False)
    assert found is not None
    assert found["method"] == "cross-fitted"
    assert found["ece"] < 0.03
    assert found["ece_inherited"] > 0.2


def test_without_a_calibration_the_others_queries_make_one() -> None:
    run, qrels = drawn(lambda logits: sigmoid(0.5 * logits - 1), 300)
    found = calibration(run, qrels, calibrated(None), seed=13)
    assert found is not None
    assert found["method"] == "cross-fitted"
    assert "each query by the others" in found["fitted_on"]
    assert found["ece"] < 0.04 < 0.1 < found["ece_raw"]
    assert found == calibration(run, qrels, calibrated(None), seed=13)


def test_the_first_documents_error_by_arithmetic() -> None:
    """The first documents of three lists have probability 0.8, two are relevant; the others 0.2, none is relevant."""
    run = as_run({"a": [1.0, 0.0], "b": [1.0, 0.0], "c": [1.0, 0.0]})
    own = Calibration("isotonic", x=(0.0, 1.0), y=(0.2, 0.8))
    found = calibration(run, {"a": {"d0": 1}, "b": {"d0": 2}, "c": {"d0": 0}}, calibrated(own), seed=13)
    assert found is not None
    assert found["ece_top"] == pytest.approx(0.8 - 2 / 3)
    assert found["ece"] == pytest.approx((0.8 - 2 / 3 + 0.2) / 2)
    assert found["bins"] == [
        {"probability": pytest.approx(0.2), "relevant": 0, "count": 3},
        {"probability": pytest.approx(0.8), "relevant": pytest.approx(2 / 3), "count": 3},
    ]


@pytest.mark.parametrize("own", [None, Calibration("platt")])
@pytest.mark.parametrize(
    "qrels", [{"a": {"d0": 1, "d1": 1}, "b": {"d0": 1}}, {"a": {"d0": 0}}, {}], ids=["all", "none", "unjudged"]
)
def test_where_only_one_kind_is_found_nothing_is_told(own: Calibration | None, qrels: Qrels) -> None:
    assert calibration(as_run({"a": [2, 1], "b": [1]}), qrels, calibrated(own), seed=13) is None


def test_empty_lists_and_single_queries_are_no_error() -> None:
    own = calibrated(Calibration("platt"))
    assert calibration(as_run({"a": [], "b": []}), {"a": {"d0": 1}}, own, seed=13) is None
    assert calibration(as_run({}), {}, own, seed=13) is None
    one, qrels = as_run({"a": [2, 1], "empty": []}), {"a": {"d0": 1}}
    assert calibration(one, qrels, calibrated(None), seed=13) is None  # no other query to fit on
    found = calibration(one, qrels, own, seed=13)
    assert found is not None
    assert found["pairs"] == 2


# --- the histogram


def test_every_score_is_in_the_histogram_once() -> None:
    run, qrels = drawn(sigmoid, 200)
    labelled = label(run, qrels)
    found = histogram(labelled)
    edges = found["edges"]
    assert len(edges) == HISTOGRAM_BINS + 1
    assert edges == sorted(edges)
    assert sum(found["relevant"]) == int(labelled.relevant.sum())
    assert sum(found["other"]) == int((~labelled.relevant).sum())
    inside = (labelled.scores > edges[10]) & (labelled.scores < edges[11]) & labelled.relevant
    assert found["relevant"][10] == int(inside.sum()) > 0


def test_an_outlier_does_not_stretch_the_histogram() -> None:
    run, qrels = drawn(sigmoid, 200)
    outlier = as_run({"far": [1e6]})
    found = histogram(label(Run("reranked", {**run, **outlier}), {**qrels, "far": {"d0": 1}}))
    assert found["edges"][-1] < 100
    assert found["relevant"][-1] >= 1


def test_one_score_only_has_a_histogram() -> None:
    found = histogram(label(as_run({"a": [3.0], "b": [3.0]}), {"a": {"d0": 1}}))
    assert (found["edges"][0], found["edges"][-1]) == (3.0, 4.0)
    assert (found["relevant"][0], found["other"][0]) == (1, 1)


# --- answerability


def told(run: Run, qrels: Qrels, found: Answerability | None) -> Any:
    """Of a pipeline that ranks as its reranker does, and whose first stage finds nothing in place of what is hidden."""
    return answerability(Runs(run, run, run), qrels, found, without_answers(run, run, qrels))


# The confidence is the sigmoid of the top score: at least one half from a score of 0 on.
TOP = Answerability((1.0, 0.0, 0.0), 0.0, 0.5)


def test_answerability_by_arithmetic() -> None:
    """Answerable lists lead with 4, 3, -1; without their relevant documents all lead with 1, -2, -3, 2 and nothing."""
    run = as_run({"a": [4, 1], "b": [3, -2], "c": [-1, -3], "d": [2, 0], "empty": []})
    qrels: Qrels = {"a": {"d0": 1}, "b": {"d0": 1, "d1": 0}, "c": {"d0": 2}, "d": {"d5": 1}, "empty": {"d0": 1}}
    found = told(run, qrels, TOP)
    assert found is not None
    assert (found["answerable"], found["unanswerable"], found["threshold"]) == (3, 5, 0.5)
    assert found["kept_answerable"] == pytest.approx(2 / 3)
    assert found["refused_unanswerable"] == pytest.approx(3 / 5)
    # 4 and 3 lie above all five; -1 above -2, -3 and nothing.
    assert found["auroc"] == pytest.approx(13 / 15)
    # Answered in the order 4, 3, 2, -1: right, right, wrong, right.
    assert found["risk_coverage"] == [
        [0.25, 0],
        [0.5, 0],
        [0.75, pytest.approx(1 / 3)],
        [1, pytest.approx(1 / 4)],
    ]


def test_a_relevant_document_that_is_not_first_answers_wrongly() -> None:
    found = told(as_run({"a": [4, 1], "b": [3, 2]}), {"a": {"d1": 1}, "b": {"d0": 1}}, TOP)
    assert found is not None
    assert found["risk_coverage"] == [[0.5, 1], [1, 0.5]]
    # Of the four pairs 4 wins against 2 and 3 does, 4 ties with a's own first document, and 3 loses to it.
    assert found["auroc"] == pytest.approx((1 + 1 + 0.5 + 0) / 4)


@pytest.mark.parametrize(
    ("threshold", "kept", "refused"),
    [(0.0, 1, 0), (1.0, 0, 1), (float(sigmoid(3.0)), 1, 1), (float(sigmoid(1.0)), 1, 0.5), (0.97, 0.5, 1)],
)
def test_the_threshold_is_the_one_that_dev_chose(threshold: float, kept: float, refused: float) -> None:
    run = as_run({"a": [4, 1], "b": [3, -2]})
    found = told(run, {"a": {"d0": 1}, "b": {"d0": 1}}, TOP._replace(threshold=threshold))
    assert found is not None
    assert (found["kept_answerable"], found["refused_unanswerable"]) == (kept, refused)
    assert found["auroc"] == 1


def test_a_list_of_relevant_documents_alone_leaves_none() -> None:
    """Without them it is empty, which has no confidence."""
    found = told(as_run({"a": [-9]}), {"a": {"d0": 1}}, TOP)
    assert found is not None
    assert (found["auroc"], found["kept_answerable"], found["refused_unanswerable"]) == (1, 0, 1)


def test_without_a_fit_or_a_relevant_candidate_nothing_is_told() -> None:
    run = as_run({"a": [4, 1], "b": [3, -2]})
    assert told(run, {"a": {"d0": 1}}, None) is None
    assert told(run, {"a": {"d0": 0}, "b": {"elsewhere": 1}}, TOP) is None
    assert told(as_run({"a": []}), {"a": {"d0": 1}}, TOP) is None
    assert told(as_run({}), {}, TOP) is None


def test_the_first_document_is_the_pipelines() -> None:
    """The reranker's confidence, of the order that users see."""
    reranked, pipeline = as_run({"a": [4, 1], "b": [3, 2]}), as_run({"a": [1, 4], "b": [3, 2]})
    qrels: Qrels = {"a": {"d1": 1}, "b": {"d0": 1}}
    barren = without_answers(reranked, reranked, qrels)
    found = answerability(Runs(reranked, reranked, pipeline), qrels, TOP, barren)
    assert found is not None
    assert found["risk_coverage"] == [[0.5, 0], [1, 0]]


def test_with_lists_that_never_held_an_answer_both_stages_are_looked_at() -> None:
    """The confidence is the sigmoid of the first stage's top score: 0.9 and 0.6, without answers 0.7 and nothing."""
    first, reranked = as_run({"a": [0.9, 0.5], "b": [0.6, 0.1]}), as_run({"a": [4, 1], "b": [3, 2]})
    qrels: Qrels = {"a": {"d0": 1}, "b": {"d0": 1}}
    model = Answerability((0.0, 0.0, 0.0, 1.0, 0.0, 0.0), 0.0, float(sigmoid(0.65)))
    barren = Barren(as_run({"a": [0.7], "b": []}), as_run({"a": [9], "b": []}))
    found = answerability(Runs(first, reranked, reranked), qrels, model, barren)
    assert found is not None
    assert (found["answerable"], found["unanswerable"]) == (2, 2)
    assert found["auroc"] == pytest.approx(3 / 4)
    assert (found["kept_answerable"], found["refused_unanswerable"]) == (0.5, 0.5)
    # A list of one query that is left empty has confidence 0, and both first documents are right.
    assert found["risk_coverage"] == [[0.5, 0], [1, 0]]
