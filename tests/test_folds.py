"""Folds of the training queries."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.collection import Collection
from secondstage.duplicates import near_duplicates
from secondstage.errors import UserError
from secondstage.lists import DROPPED, IGNORED, NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.measures import mean
from secondstage.scoring import Constant
from secondstage.texts import PairTexts
from secondstage.train.folds import PAIRWISE, held_out, make_folds

WORDS = ("amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "heron", "indigo", "jasper")


def text(number: int) -> str:
    """Texts of which no two are alike."""
    first, second = WORDS[number % 10], WORDS[number // 10]
    return f"{first} {second * 2} {second[::-1]} {first[::-1]} {number * 7919}"


def training_list(query_id: str, *positives: str) -> TrainingList:
    found = [Candidate(doc_id, 1, True, "bm25", 0, 0.0, POSITIVE) for doc_id in positives]
    return TrainingList(query_id, (*found, Candidate("n", 0, False, "bm25", 1, 1.0, NEGATIVE)))


def separate(count: int) -> tuple[list[TrainingList], dict[str, str]]:
    """Queries that share nothing."""
    lists = [training_list(f"q{i:03}", f"d{i}") for i in range(count)]
    return lists, {x.query_id: text(i) for i, x in enumerate(lists)}


def places(folds: list[list[str]]) -> dict[str, int]:
    """The fold of each query; fails if one is in two."""
    found = [(query_id, number) for number, fold in enumerate(folds) for query_id in fold]
    assert len(found) == len(dict(found))
    return dict(found)


@given(st.integers(4, 60), st.integers(2, 5), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_every_query_is_in_one_fold_and_folds_are_even(count: int, folds: int, seed: int) -> None:
    if count < 2 * folds:
        return
    lists, queries = separate(count)
    found, note = make_folds(lists, queries, folds, seed)
    assert places(found).keys() == set(queries)
    assert len(found) == folds
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert note == "no two share a relevant document or nearly a text"


def test_the_seed_and_the_ids_decide() -> None:
    lists, queries = separate(30)
    folds = make_folds(lists, queries, 3, 1)
    assert make_folds(lists[::-1], dict(reversed(queries.items())), 3, 1) == folds
    assert make_folds(lists, queries, 3, 2) != folds


def test_what_shares_a_relevant_document_or_a_text_stays_together() -> None:
    """More queries than are compared one by one; a chain of documents, and two texts that differ by a letter."""
    lists, queries = separate(3 * PAIRWISE)
    chain = ["q000", "q050", "q090"]
    lists[0], lists[50], lists[90] = (
        training_list(query_id, *documents)
        for query_id, documents in zip(chain, (["x"], ["x", "y"], ["y"]), strict=True)
    )
    twins = ["q010", "q080"]
    for twin in twins:
        queries[twin] = "which saddle suits a bicycle for long distances " + twin[-2]
    assert near_duplicates([queries["q010"]], [queries["q080"]], 0.8)
    same = ["q011", "q012", "q085"]
    queries |= {"q011": "What is chess?", "q012": "what is chess", "q085": "What is CHESS"}
    for seed in range(4):
        found, note = make_folds(lists, queries, 5, seed)
        where = places(found)
        for group in (chain, twins, same):
            assert len({where[query_id] for query_id in group}) == 1
        assert note == "no two share a relevant document or nearly a text"
        assert max(map(len, found)) - min(map(len, found)) <= 1


def test_queries_that_all_share_a_document_are_kept_together_by_text_alone() -> None:
    _, queries = separate(20)
    lists = [training_list(query_id, "hub") for query_id in queries]
    queries["q003"] = queries["q017"]
    found, note = make_folds(lists, queries, 4, 13)
    assert note == "some share relevant documents"
    assert [len(fold) for fold in found] == [5] * 4
    assert places(found)["q003"] == places(found)["q017"]
    found, note = make_folds(lists, dict.fromkeys(queries, "the same"), 4, 13)
    assert note == "some share relevant documents or nearly their texts"
    assert [len(fold) for fold in found] == [5] * 4


@pytest.mark.parametrize(("count", "folds"), [(9, 5), (20, 1), (0, 2)])
def test_too_few_lists_are_refused(count: int, folds: int) -> None:
    with pytest.raises(UserError, match=rf"train\.folds={folds} of {count} training lists: want 2 folds at least"):
        make_folds(*separate(count), folds, 13)


def test_the_dev_of_a_fold_is_what_the_first_stage_found(collection: Collection) -> None:
    """In the order of ranks, whatever the roles; what was added from the qrels or the corpus is not in the list."""
    one, two, three, four, five = collection.documents.ids[:5]
    query_id, synthetic = list(collection.qrels["train"])[:2]
    lists = [
        TrainingList(
            query_id,
            (
                Candidate(one, 2, True, "qrels", 0, 0.0, POSITIVE),
                Candidate(two, 1, True, "bm25", 3, 7.0, DROPPED),  # judged, but below what makes a positive
                Candidate(three, 0, False, "dense", 1, 9.0, IGNORED),
                Candidate(four, 1, False, "bm25", 2, 8.0, POSITIVE),  # relabelled by a rule
                Candidate(five, 0, False, "random", 0, 0.0, NEGATIVE),
            ),
        ),
        TrainingList(
            synthetic,
            (Candidate(one, 0, False, "bm25", 2, 1.0, POSITIVE), Candidate(two, 0, False, "bm25", 1, 2.0, NEGATIVE)),
        ),
    ]
    selection = held_out(lists, PairTexts(collection.queries, collection.documents), depth=3)
    assert selection.run[query_id].doc_ids == (three, four, two)
    assert selection.run[query_id].retrievers == ("dense", "bm25", "bm25")
    assert selection.qrels == {query_id: {one: 2, two: 1}, synthetic: {one: 1}}
    assert selection.values(Constant()) == selection.first_stage()
    assert selection.first_stage()[query_id] == pytest.approx(0.5 / (2 + 1 / 1.584962500721156))  # rank 3, of 2 and 1
    assert mean(selection.first_stage()) < 0.5
    cut = held_out(lists, PairTexts(collection.queries, collection.documents), depth=2)
    assert Counter(len(ranking.doc_ids) for ranking in cut.run.values()) == {2: 2}
    assert not selection.exhausted
