"""Reranking by any scorer, and the baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.collection import Documents
from secondstage.errors import UserError
from secondstage.run import Ranking, Run, Scores, rank
from secondstage.scoring import Constant, Random, Scorer, as_scores, pair_digest, rerank

AsDocuments = Callable[[Sequence[str]], Documents]
TEXTS = ["a", "bbb", "cc", "dddd"]
QUERIES = {"q0": "one", "q1": "three"}
TEXT = st.text(max_size=8)
PAIRS = st.lists(st.tuples(TEXT, TEXT), max_size=12)


class Lengths:
    """Scores a pair by the length of its document, and remembers what it was asked."""

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        self.asked = list(pairs), label
        return np.array([len(document) for _, document in pairs], np.float32)


class Gives:
    """Gives these very scores, in double precision, as a scorer of someone else's may."""

    def __init__(self, scores: Sequence[float]) -> None:
        self.scores = np.array(scores)

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        return self.scores


def ranking(*places: int) -> Ranking:
    return rank([f"d{i}" for i in places], [-float(i) for i in range(len(places))], ["bm25"] * len(places))


FIRST = Run("first_stage", {"q0": ranking(2, 0, 1), "q1": ranking(3, 2)})


def orders(run: Run) -> dict[str, tuple[str, ...]]:
    return {query_id: found.doc_ids for query_id, found in run.items()}


def test_reranking_orders_each_list_by_the_scores_of_its_own_pairs(as_documents: AsDocuments) -> None:
    scorer = Lengths()
    found = rerank(scorer, FIRST, QUERIES, as_documents(TEXTS), name="lengths", label="shown")
    assert scorer.asked == (
        [("one", "cc"), ("one", "a"), ("one", "bbb"), ("three", "dddd"), ("three", "cc")],
        "shown",
    )
    assert found.name == "lengths"
    assert orders(found) == {"q0": ("d1", "d2", "d0"), "q1": ("d3", "d2")}
    assert found["q0"].scores.tolist() == [3, 2, 1]


def test_equal_scores_keep_the_order_of_the_first_stage(as_documents: AsDocuments) -> None:
    assert orders(rerank(Constant(), FIRST, QUERIES, as_documents(TEXTS))) == orders(FIRST)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 1e300])
def test_scores_that_are_not_finite_are_counted_and_their_system_named(
    broken: float, as_documents: AsDocuments
) -> None:
    with pytest.raises(UserError, match=r"^rival: 2 of 5 scores are not finite"):
        rerank(Gives([1, broken, 2, 3, broken]), FIRST, QUERIES, as_documents(TEXTS), name="rival")


@pytest.mark.parametrize("given_scores", [[1.0] * 4, [1.0] * 6, [[1.0]] * 5])
def test_a_scorer_that_gives_another_number_of_scores_is_caught(
    given_scores: list[float], as_documents: AsDocuments
) -> None:
    with pytest.raises(ValueError, match="5 pairs, but scores of shape"):
        rerank(Gives(given_scores), FIRST, QUERIES, as_documents(TEXTS))


def test_a_run_without_lists_is_reranked_to_one(as_documents: AsDocuments) -> None:
    assert dict(rerank(Random(1), Run("first_stage", {}), {}, as_documents([]))) == {}


@given(PAIRS, st.integers(0, 99))
def test_a_random_score_depends_on_the_pair_alone(pairs: list[tuple[str, str]], seed: int) -> None:
    scores = Random(3).score(pairs)
    assert scores.dtype == np.float32
    order = np.random.default_rng(seed).permutation(len(pairs))
    assert Random(3).score([pairs[i] for i in order]).tolist() == [scores[i] for i in order]
    assert [Random(3).score([pair])[0] for pair in pairs] == scores.tolist()


def test_random_scores_are_uniform_and_seeds_are_independent() -> None:
    pairs = [(f"query {i}", "document") for i in range(4000)]
    one, other = Random(1).score(pairs), Random(2).score(pairs)
    assert one.min() >= 0
    assert one.max() < 1
    # Four standard errors of a uniform mean and of a correlation.
    assert abs(one.mean() - 0.5) < 4 * (1 / 12 / 4000) ** 0.5
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 * 4000**-0.5


def test_the_baselines_are_scorers() -> None:
    scorers: list[Scorer] = [Constant(), Random(1)]
    assert [scorer.score([("a", "b")], label=None).shape for scorer in scorers] == [(1,), (1,)]


@given(TEXT, TEXT, TEXT, TEXT)
def test_two_pairs_have_one_digest_only_if_they_are_equal(a: str, b: str, c: str, d: str) -> None:
    assert (pair_digest(a, b) == pair_digest(c, d)) == ((a, b) == (c, d))


@given(TEXT, TEXT)
def test_moving_the_border_between_the_texts_changes_the_digest(a: str, b: str) -> None:
    digests = {pair_digest((a + b)[:i], (a + b)[i:]) for i in range(len(a + b) + 1)}
    assert len(digests) == len(a + b) + 1


def test_half_a_surrogate_pair_has_a_digest() -> None:
    assert pair_digest("\ud800", "a") != pair_digest("\ud801", "a")


def test_scores_too_large_for_single_precision_become_infinite_without_a_warning() -> None:
    assert as_scores([1e300, 1.5, -1e300], 3).tolist() == [np.inf, 1.5, -np.inf]
