"""Answerability against sklearn, enumeration and closed forms, and what must not change it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from secondstage.answerability import Answerability, auroc, features, fit, risk_coverage
from secondstage.errors import UserError

Floats = npt.NDArray[np.float64]

logits = st.floats(-1e4, 1e4)
lists = st.lists(logits, max_size=12)
confidences = st.lists(st.integers(0, 8).map(lambda eighths: eighths / 8), min_size=1, max_size=20)


def drawn(n: int, lead: float, seed: int, size: int = 20) -> list[Floats]:
    """Lists of scores whose first candidate is `lead` above what chance gives it; each query has a shift of its own."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 1, (n, size)) + rng.normal(0, 1, (n, 1))
    scores[:, 0] += lead
    return list(scores)


@pytest.fixture(scope="module")
def model() -> Answerability:
    return fit(drawn(300, 4.0, 1), drawn(300, 0.0, 2))


# --- features


def test_features_of_small_lists() -> None:
    assert features([]).tolist() == [0, 0, 0]
    assert features([3.0]).tolist() == [3, 0, 0]
    assert features([1.0, 5.0, 3.0]).tolist() == [5, 2, 3]


@given(st.lists(logits, min_size=1, max_size=12), st.floats(-100, 100))
def test_a_shift_moves_the_top_score_alone(scores: list[float], shift: float) -> None:
    moved = features(np.array(scores) + shift) - features(scores)
    assert moved == pytest.approx([shift, 0, 0], abs=1e-8)


@given(lists, st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(scores: list[float], order: Any) -> None:
    shuffled = list(scores)
    order.shuffle(shuffled)
    assert (features(shuffled) == features(scores)).all()


# --- the model


def test_the_confidence_is_that_of_sklearn(model: Answerability) -> None:
    answerable, unanswerable = drawn(300, 4.0, 1), drawn(300, 0.0, 2)
    matrix = np.stack([features(scores) for scores in answerable + unanswerable])
    oracle = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8)).fit(matrix, [1] * 300 + [0] * 300)
    others = drawn(20, 1.0, 3)
    expected = oracle.predict_proba(np.stack([features(scores) for scores in others]))[:, 1]
    assert [model.confidence(scores) for scores in others] == pytest.approx(expected, abs=1e-5)


def test_answerable_queries_are_told_apart_also_where_not_fitted(model: Answerability) -> None:
    answerable, unanswerable = drawn(400, 4.0, 5), drawn(400, 0.0, 6)
    found = auroc([model.confidence(s) for s in answerable], [model.confidence(s) for s in unanswerable])
    # The top score alone is blurred by the shift of each query.
    assert found > auroc([s.max() for s in answerable], [s.max() for s in unanswerable]) + 0.02
    assert np.mean([model.answerable(scores) for scores in answerable]) > 0.85
    assert np.mean([model.answerable(scores) for scores in unanswerable]) < 0.15


def test_the_threshold_has_the_largest_youden_index() -> None:
    # In unequal numbers: it weighs the two kinds alike, however many there are of each.
    sides = drawn(300, 2.0, 1), drawn(30, 0.0, 2)
    model = fit(*sides)
    answerable, unanswerable = ([model.confidence(scores) for scores in side] for side in sides)

    def youden(threshold: float) -> float:
        return float(np.mean(np.array(answerable) >= threshold) - np.mean(np.array(unanswerable) >= threshold))

    best = max(youden(threshold) for threshold in answerable + unanswerable)
    assert youden(model.threshold) == pytest.approx(best)
    assert model.threshold == min(t for t in answerable + unanswerable if youden(t) > best - 1e-9)


def test_where_nothing_tells_them_apart_everything_is_answered() -> None:
    same = drawn(50, 1.0, 1)
    model = fit(same, same)
    assert all(model.answerable(scores) for scores in same)


def test_an_empty_list_is_never_answerable(model: Answerability) -> None:
    assert model.confidence([]) == 0
    assert not model.answerable([])
    assert not model._replace(threshold=0.0).answerable([])
    assert model._replace(threshold=0.0).answerable([0.0])


def test_empty_lists_do_not_change_the_fit(model: Answerability) -> None:
    assert fit([*drawn(300, 4.0, 1), np.array([])], [np.array([]), *drawn(300, 0.0, 2)]) == model


@pytest.mark.parametrize(("answerable", "unanswerable"), [([], [[1.0]]), ([[1.0]], []), ([[1.0]], [[]])])
def test_a_side_without_lists_is_refused(answerable: list[list[float]], unanswerable: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="at least one answerable"):
        fit(answerable, unanswerable)


def test_a_feature_that_is_always_the_same_has_no_weight() -> None:
    model = fit([[2.0], [3.0]], [[0.0], [1.0]])
    assert model.weights[0] > 0
    assert model.weights[1:] == pytest.approx((0, 0), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(logits, min_size=1, max_size=6), min_size=1, max_size=5), lists)
def test_any_scores_have_a_finite_confidence(answerable: list[list[float]], scores: list[float]) -> None:
    model = fit(answerable, [[-1e4, 1e4], [0.0]])
    assert 0 <= model.confidence(scores) <= 1
    assert 0 <= model.confidence([-1e4, 1e4, -1e4]) <= 1


def test_the_order_of_lists_and_candidates_does_not_matter(model: Answerability) -> None:
    turned = fit(*[[scores[::-1] for scores in drawn(300, lead, seed)[::-1]] for lead, seed in ((4.0, 1), (0.0, 2))])
    assert turned.weights == pytest.approx(model.weights, rel=1e-4)
    assert (turned.bias, turned.threshold) == pytest.approx((model.bias, model.threshold), rel=1e-4)


def test_json_gives_the_same_model(model: Answerability) -> None:
    assert Answerability.from_json(json.loads(json.dumps(model.to_json(), allow_nan=False))) == model


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights": None}, "weights"),
        ({"weights": [1.0, 2.0]}, "weights"),
        ({"weights": "123"}, "weights"),
        ({"weights": [1.0, 2.0, float("inf")]}, "inf"),
        ({"bias": "high"}, "high"),
        ({"bias": None}, "bias"),
        ({"threshold": 1.5}, "1.5"),
        ({"threshold": -0.5}, "-0.5"),
        ({"threshold": True}, "True"),
    ],
)
def test_a_broken_record_is_named(model: Answerability, change: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=r"^answerability") as caught:
        Answerability.from_json(model.to_json() | change)
    assert named in str(caught.value)


@pytest.mark.parametrize("record", [None, [], "x"])
def test_a_record_that_is_no_mapping_is_refused(record: object) -> None:
    with pytest.raises(UserError, match="no mapping"):
        Answerability.from_json(record)


# --- AUROC


@given(confidences, confidences)
def test_auroc_of_the_other_side_is_the_rest(positives: list[float], negatives: list[float]) -> None:
    assert auroc(negatives, positives) == pytest.approx(1 - auroc(positives, negatives))


@given(confidences, confidences)
def test_auroc_is_a_share_of_pairs(positives: list[float], negatives: list[float]) -> None:
    won = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    assert auroc(positives, negatives) == pytest.approx(np.mean(won))


@pytest.mark.parametrize(("positives", "negatives"), [([], [0.5]), ([0.5], []), ([], [])])
def test_auroc_needs_both_kinds(positives: list[float], negatives: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one positive"):
        auroc(positives, negatives)


# --- risk and coverage


def test_risk_and_coverage_of_a_small_case() -> None:
    found = risk_coverage([0.9, 0.2, 0.6, 0.6], [True, False, False, True])
    assert np.array(found) == pytest.approx(np.array([(0.25, 0.0), (0.75, 1 / 3), (1.0, 0.5)]))


def test_without_queries_there_is_no_point() -> None:
    assert risk_coverage([], []) == []


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=40))
def test_every_point_is_what_a_threshold_gives(found: list[tuple[int, bool]]) -> None:
    def at(threshold: int) -> tuple[float, float]:
        answered = [correct for confidence, correct in found if confidence >= threshold]
        return len(answered) / len(found), 1 - sum(answered) / len(answered)

    expected = [at(threshold) for threshold in sorted({confidence for confidence, _ in found}, reverse=True)]
    points = risk_coverage([confidence for confidence, _ in found], [correct for _, correct in found])
    assert np.array(points) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("points", [1, 2, 7, 50, 1000])
def test_the_points_are_few_and_end_with_full_coverage(points: int) -> None:
    rng = np.random.default_rng(4)
    confidence, correct = rng.random(300), rng.random(300) < 0.7
    found = risk_coverage(confidence, correct, points)
    assert len(found) == min(points, 300)
    assert found[-1] == pytest.approx((1.0, 1 - correct.mean()))
    assert sorted(found) == found


@pytest.mark.parametrize("turn", [lambda values: values[::-1], lambda values: np.roll(values, 7)])
def test_the_order_of_the_queries_does_not_matter(turn: Callable[[Any], Any]) -> None:
    rng = np.random.default_rng(4)
    confidence, correct = rng.integers(0, 10, 60) / 10, rng.random(60) < 0.7
    assert risk_coverage(turn(confidence), turn(correct)) == risk_coverage(confidence, correct)


# --- both stages


def both(seed: int, count: int = 60) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Lists whose reranker knows nothing, while the first stage gives a relevant document 2 more than the others."""
    rng = np.random.default_rng(seed)
    answerable = [rng.normal(size=(2, 12)) for _ in range(count)]
    for scores in answerable:
        scores[1, rng.integers(12)] += 3
    return answerable, [rng.normal(size=(2, 12)) for _ in range(count)]


def test_the_features_of_two_scorers_stand_side_by_side() -> None:
    scores = [[1.0, 5.0, 3.0], [0.5, 0.25, 0.0]]
    assert features(scores).tolist() == [*features(scores[0]), *features(scores[1])] == [5, 2, 3, 0.5, 0.25, 0.375]
    assert features(np.zeros((2, 0))).tolist() == [0] * 6


def test_what_the_first_stage_knows_is_learnt_beside_the_reranker() -> None:
    model, alone = fit(*both(1)), fit(*([scores[0] for scores in side] for side in both(1)))
    assert (len(model.weights), len(alone.weights)) == (6, 3)
    answerable, unanswerable = both(2, 200)
    area, without = (
        auroc([found.confidence(s) for s in answerable], [found.confidence(s) for s in unanswerable])
        for found in (model, alone)
    )
    assert area > 0.85
    assert without == pytest.approx(0.5, abs=0.08)
    assert Answerability.from_json(json.loads(json.dumps(model.to_json()))) == model


def test_a_model_of_the_reranker_alone_passes_over_the_first_stage() -> None:
    """Bundles made before both were looked at."""
    model = Answerability((1.0, 0.5, 0.25), -1.0, 0.5)
    scores = np.array([[2.0, 1.0], [9.0, -9.0]])
    assert model.confidence(scores) == model.confidence(scores[0])
    assert model.answerable(scores) == model.answerable(scores[0])
    assert model.confidence(np.zeros((2, 0))) == 0
    assert not model.answerable(np.zeros((2, 0)))


def test_a_model_of_both_stages_needs_both() -> None:
    with pytest.raises(ValueError, match="zip"):
        Answerability((1.0,) * 6, 0.0, 0.5).confidence([2.0, 1.0])
